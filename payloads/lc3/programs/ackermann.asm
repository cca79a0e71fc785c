; The Ackermann function for m up to 3 and n up to 4: recursion as deep as it gets.
        .ORIG x3000
        AND R4, R4, #0
ROW     AND R5, R5, #0
COLUMN  ADD R0, R4, #0
        ADD R1, R5, #0
        JSR ACKERMANN
        JSR PRINT_NUMBER
        LD R0, BLANK
        OUT
        ADD R5, R5, #1
        ADD R0, R5, #-5
        BRn COLUMN
        LD R0, NEWLINE
        OUT
        ADD R4, R4, #1
        ADD R0, R4, #-4
        BRn ROW
        HALT

; R0 = A(R0, R1). Preserves R4 and R5.
ACKERMANN
        ADD R0, R0, #0
        BRp M_POSITIVE
        ADD R0, R1, #1
        RET
M_POSITIVE
        ADD R6, R6, #-2
        STR R7, R6, #0
        STR R0, R6, #1
        ADD R1, R1, #0
        BRp N_POSITIVE
        ADD R0, R0, #-1         ; A(m, 0) = A(m - 1, 1)
        AND R1, R1, #0
        ADD R1, R1, #1
        BRnzp LAST_CALL
N_POSITIVE
        ADD R1, R1, #-1         ; A(m, n) = A(m - 1, A(m, n - 1))
        JSR ACKERMANN
        ADD R1, R0, #0
        LDR R0, R6, #1
        ADD R0, R0, #-1
LAST_CALL
        JSR ACKERMANN
        LDR R7, R6, #0
        ADD R6, R6, #2
        RET
BLANK   .FILL x20
NEWLINE .FILL x0A
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
