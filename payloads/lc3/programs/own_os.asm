; A program that brings everything: its own OS, started in supervisor mode at x0200, with trap vectors, an exception
; handler and a user program that it starts in user mode by RTI.
        .ORIG x0200
        LEA R0, BOOT_TEXT
        JSR SHOW
        LEA R0, ON_RTI
        STI R0, EXCEPTION_VECTOR
        LD R0, USER_PSR         ; the frame of a trap that never happened
        ADD R6, R6, #-1
        STR R0, R6, #0
        LD R0, USER_PC
        ADD R6, R6, #-1
        STR R0, R6, #0
        RTI

; Trap x21: OUT, in angle brackets, so that nobody takes it for another one.
OWN_OUT ADD R6, R6, #-2
        STR R0, R6, #0
        STR R7, R6, #1
        LD R0, LEFT
        JSR SHOW_ONE
        LDR R0, R6, #0
        JSR SHOW_ONE
        LD R0, RIGHT
        JSR SHOW_ONE
        LDR R0, R6, #0
        LDR R7, R6, #1
        ADD R6, R6, #2
        RTI

; Trap x50: R0 = R0 * 10.
TIMES_TEN
        ADD R6, R6, #-1
        STR R1, R6, #0
        ADD R1, R0, R0
        ADD R0, R1, R1
        ADD R0, R0, R0
        ADD R0, R0, R1
        LDR R1, R6, #0
        ADD R6, R6, #1
        RTI

; RTI in user mode: says so, and goes on behind it.
ON_RTI  ADD R6, R6, #-2
        STR R0, R6, #0
        STR R7, R6, #1
        LEA R0, RTI_TEXT
        JSR SHOW
        LDR R0, R6, #2
        ADD R0, R0, #1
        STR R0, R6, #2
        LDR R0, R6, #0
        LDR R7, R6, #1
        ADD R6, R6, #2
        RTI

; Trap x25.
OWN_HALT
        LEA R0, END_TEXT
        JSR SHOW
        AND R0, R0, #0
        STI R0, MCR
        BRnzp OWN_HALT

SHOW    ADD R6, R6, #-1
        STR R7, R6, #0
        ADD R1, R0, #0
SHOW_NEXT
        LDR R0, R1, #0
        BRz SHOW_END
        JSR SHOW_ONE
        ADD R1, R1, #1
        BRnzp SHOW_NEXT
SHOW_END
        LDR R7, R6, #0
        ADD R6, R6, #1
        RET

SHOW_ONE
        ST R1, ONE_R1
ONE_WAIT
        LDI R1, DSR
        BRzp ONE_WAIT
        STI R0, DDR
        LD R1, ONE_R1
        RET
ONE_R1  .BLKW 1
EXCEPTION_VECTOR
        .FILL x0100
USER_PSR
        .FILL x8002
USER_PC .FILL x3000
DSR     .FILL xFE04
DDR     .FILL xFE06
MCR     .FILL xFFFE
LEFT    .FILL x3C
RIGHT   .FILL x3E
BOOT_TEXT
        .STRINGZ "own OS\n"
RTI_TEXT
        .STRINGZ "\nno RTI for users"
END_TEXT
        .STRINGZ "\nbye\n"
        .END

        .ORIG x0021
        .FILL OWN_OUT
        .END
        .ORIG x0025
        .FILL OWN_HALT
        .END
        .ORIG x0050
        .FILL TIMES_TEN
        .END

        .ORIG x3000
        LD R0, SEVEN
        TRAP x50
        OUT                     ; 'F' = 70
        RTI
        LD R1, START_OF_STACK   ; the user's stack is where it was
        ADD R1, R6, R1
        BRnp WRONG
        LDI R0, PSR             ; user mode, priority 0, Z
        LD R1, MINUS_PSR
        ADD R0, R0, R1
        BRnp WRONG
        LD R0, LETTER_K
        OUT
WRONG   HALT
SEVEN   .FILL 7
START_OF_STACK
        .FILL x0200             ; -xFE00
PSR     .FILL xFFFC
MINUS_PSR
        .FILL x7FFE             ; -x8002
LETTER_K
        .FILL x4B
        .END
