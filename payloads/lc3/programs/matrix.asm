; The product of two 3 by 3 matrices of signed numbers.
        .ORIG x3000
        AND R1, R1, #0          ; R1 = row of A, as an offset: 0, 3, 6
ROW     AND R2, R2, #0          ; R2 = column of B: 0, 1, 2
COLUMN  ST R1, ROW_OFFSET
        ST R2, COLUMN_OFFSET
        AND R5, R5, #0          ; R5 = the sum
        LD R3, A_AT
        ADD R3, R3, R1
        LD R4, B_AT
        ADD R4, R4, R2
        AND R2, R2, #0
        ADD R2, R2, #3
TERM    LDR R0, R3, #0
        LDR R1, R4, #0
        ST R2, TERMS_LEFT
        JSR MULTIPLY
        LD R2, TERMS_LEFT
        ADD R5, R5, R0
        ADD R3, R3, #1
        ADD R4, R4, #3
        ADD R2, R2, #-1
        BRp TERM
        ADD R0, R5, #0
        JSR PRINT_NUMBER
        LD R0, BLANK
        OUT
        LD R1, ROW_OFFSET
        LD R2, COLUMN_OFFSET
        ADD R2, R2, #1
        ADD R0, R2, #-3
        BRn COLUMN
        LD R0, NEWLINE
        OUT
        ADD R1, R1, #3
        ADD R0, R1, #-9
        BRn ROW
        HALT

; R0 = R0 * R1. Changes R1 and R2.
MULTIPLY
        ST R3, MUL_R3
        ST R4, MUL_R4
        AND R2, R2, #0
        ADD R3, R2, #1          ; the bit of R0 that is looked at
MUL_BIT AND R4, R0, R3
        BRz MUL_ZERO
        ADD R2, R2, R1
MUL_ZERO
        ADD R1, R1, R1
        ADD R3, R3, R3
        BRnp MUL_BIT
        ADD R0, R2, #0
        LD R3, MUL_R3
        LD R4, MUL_R4
        RET
MUL_R3  .BLKW 1
MUL_R4  .BLKW 1
ROW_OFFSET
        .BLKW 1
COLUMN_OFFSET
        .BLKW 1
TERMS_LEFT
        .BLKW 1
BLANK   .FILL x20
NEWLINE .FILL x0A
A_AT    .FILL A
B_AT    .FILL B
A       .FILL #3
        .FILL #-1
        .FILL #4
        .FILL #1
        .FILL #5
        .FILL #-9
        .FILL #2
        .FILL #6
        .FILL #5
B       .FILL #-3
        .FILL #5
        .FILL #8
        .FILL #9
        .FILL #-7
        .FILL #9
        .FILL #3
        .FILL #2
        .FILL #-3
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
