; The towers of Hanoi with four discs, by recursion on the stack at R6.
        .ORIG x3000
        LD R0, DISCS
        LD R1, PEG_A
        LD R2, PEG_B
        LD R3, PEG_C
        JSR HANOI
        LD R0, MOVES
        JSR PRINT_NUMBER
        LEA R0, TEXT
        PUTS
        HALT

; Moves R0 discs from peg R1 to peg R3 by way of R2. Preserves R1 to R3.
HANOI   ADD R0, R0, #0
        BRz HANOI_END
        ADD R6, R6, #-5
        STR R7, R6, #0
        STR R0, R6, #1
        STR R1, R6, #2
        STR R2, R6, #3
        STR R3, R6, #4
        ADD R0, R0, #-1
        ADD R4, R2, #0
        ADD R2, R3, #0
        ADD R3, R4, #0
        JSR HANOI
        LDR R0, R6, #2
        OUT
        LEA R0, ARROW
        PUTS
        LDR R0, R6, #4
        OUT
        LD R0, NEWLINE
        OUT
        LD R0, MOVES
        ADD R0, R0, #1
        ST R0, MOVES
        LDR R0, R6, #1
        ADD R0, R0, #-1
        LDR R1, R6, #3
        LDR R2, R6, #2
        LDR R3, R6, #4
        JSR HANOI
        LDR R7, R6, #0
        LDR R1, R6, #2
        LDR R2, R6, #3
        LDR R3, R6, #4
        ADD R6, R6, #5
HANOI_END
        RET
DISCS   .FILL 4
PEG_A   .FILL x41
PEG_B   .FILL x42
PEG_C   .FILL x43
NEWLINE .FILL x0A
MOVES   .FILL 0
ARROW   .STRINGZ "->"
TEXT    .STRINGZ " moves\n"
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
