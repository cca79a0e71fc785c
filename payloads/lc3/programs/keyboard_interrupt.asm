; Characters arrive by interrupt while the main program counts: the handler keeps each one and the main program never
; polls. Ends with the character '.'.
        .ORIG x3000
        LEA R0, HANDLER
        STI R0, VECTOR
        LD R0, ENABLE
        STI R0, KBSR
        AND R4, R4, #0
WAIT    ADD R4, R4, #1          ; work that knows nothing of the keyboard
        LD R1, FINISHED
        BRz WAIT
        AND R0, R0, #0
        STI R0, KBSR            ; no more interrupts
        LEA R0, TEXT
        PUTS
        LEA R0, BUFFER
        PUTS
        LEA R0, NEWLINE
        PUTS
        HALT

; Interrupted code must not notice: every register that is used is kept on the supervisor stack.
HANDLER ADD R6, R6, #-3
        STR R0, R6, #0
        STR R1, R6, #1
        STR R2, R6, #2
        LDI R0, KBDR
        LD R1, MINUS_STOP
        ADD R1, R0, R1
        BRz STOP
        LD R2, FREE
        STR R0, R2, #0
        ADD R2, R2, #1
        ST R2, FREE
        BRnzp LEAVE
STOP    ADD R1, R1, #1
        ST R1, FINISHED
LEAVE   LDR R0, R6, #0
        LDR R1, R6, #1
        LDR R2, R6, #2
        ADD R6, R6, #3
        RTI

VECTOR  .FILL x0180
KBSR    .FILL xFE00
KBDR    .FILL xFE02
ENABLE  .FILL x4000
MINUS_STOP
        .FILL x-2E
FINISHED
        .FILL 0
FREE    .FILL BUFFER
TEXT    .STRINGZ "By interrupt: "
NEWLINE .STRINGZ "\n"
BUFFER  .BLKW 64
        .END
