; Code that writes code: an ADD whose immediate is patched on every round, a subroutine built from data, and a loop
; whose own branch is replaced by a NOP while it runs.
        .ORIG x3000
        AND R1, R1, #0          ; 0 + 1 + ... + 15 through the immediate of PATCHED
        AND R2, R2, #0
ROUND   LD R3, TEMPLATE
        ADD R3, R3, R2
        ST R3, PATCHED
PATCHED .FILL 0                 ; ADD R1, R1, #n from the first round on
        ADD R2, R2, #1
        ADD R3, R2, #-16
        BRn ROUND
        ADD R0, R1, #0
        JSR PRINT_NUMBER
        LEA R0, NEWLINE
        PUTS

        LEA R1, PIECES          ; copy ADD R0, R0, R0 and RET to PLACE and call it
        LEA R2, PLACE
        LDR R3, R1, #0
        STR R3, R2, #0
        LDR R3, R1, #1
        STR R3, R2, #1
        AND R0, R0, #0
        ADD R0, R0, #11
        JSRR R2
        JSR PRINT_NUMBER
        LEA R0, NEWLINE
        PUTS
        LDR R3, R1, #2          ; NOT R0, R0 in the same place
        STR R3, R2, #0
        AND R0, R0, #0
        ADD R0, R0, #11
        JSRR R2
        JSR PRINT_NUMBER
        LEA R0, NEWLINE
        PUTS

        AND R4, R4, #0
        AND R5, R5, #0
SPIN    ADD R4, R4, #1
        ADD R3, R4, #-10
        BRnp BACK
        ST R5, BACK             ; x0000, a NOP: the way out
BACK    BRnzp SPIN
        ADD R0, R4, #0
        JSR PRINT_NUMBER
        LEA R0, NEWLINE
        PUTS
        HALT
TEMPLATE
        ADD R1, R1, #0
PIECES  ADD R0, R0, R0
        RET
        NOT R0, R0
PLACE   .BLKW 2
NEWLINE .STRINGZ "\n"
; Displays R0 as a signed decimal number. Changes R7 only.
PRINT_NUMBER
        ST R0, PN_R0
        ST R1, PN_R1
        ST R2, PN_R2
        ST R3, PN_R3
        ST R4, PN_R4
        ST R5, PN_R5
        ST R7, PN_R7
        ADD R1, R0, #0
        BRzp PN_POSITIVE
        LD R0, PN_MINUS
        OUT
        NOT R1, R1
        ADD R1, R1, #1
PN_POSITIVE
        LEA R2, PN_POWERS
        AND R3, R3, #0          ; positive once a digit has been shown
PN_DIGIT
        LDR R4, R2, #0
        BRz PN_LAST
        AND R0, R0, #0
PN_SUBTRACT
        ADD R5, R1, R4
        BRn PN_SHOW
        ADD R1, R5, #0
        ADD R0, R0, #1
        BRnzp PN_SUBTRACT
PN_SHOW ADD R3, R3, R0
        BRz PN_SKIP
        LD R5, PN_ZERO
        ADD R0, R0, R5
        OUT
PN_SKIP ADD R2, R2, #1
        BRnzp PN_DIGIT
PN_LAST LD R5, PN_ZERO
        ADD R0, R1, R5
        OUT
        LD R0, PN_R0
        LD R1, PN_R1
        LD R2, PN_R2
        LD R3, PN_R3
        LD R4, PN_R4
        LD R5, PN_R5
        LD R7, PN_R7
        RET
PN_POWERS
        .FILL #-10000
        .FILL #-1000
        .FILL #-100
        .FILL #-10
        .FILL #0
PN_MINUS
        .FILL x2D
PN_ZERO .FILL x30
PN_R0   .BLKW 1
PN_R1   .BLKW 1
PN_R2   .BLKW 1
PN_R3   .BLKW 1
PN_R4   .BLKW 1
PN_R5   .BLKW 1
PN_R7   .BLKW 1
        .END
