; Commands by letter, dispatched through a table with JSRR:
; i(ncrement), d(ecrement), t(wice), n(egate), p(rint), q(uit).
        .ORIG x3000
        AND R5, R5, #0
READ    GETC
        LD R1, TABLE_AT
LOOK    LDR R2, R1, #0
        BRz READ                ; unknown: ignored
        ADD R2, R0, R2
        BRz FOUND
        ADD R1, R1, #2
        BRnzp LOOK
FOUND   LDR R7, R1, #1
        JSRR R7                 ; its target is read before R7 changes
        BRnzp READ

INCREMENT
        ADD R5, R5, #1
        RET
DECREMENT
        ADD R5, R5, #-1
        RET
TWICE   ADD R5, R5, R5
        RET
NEGATE  NOT R5, R5
        ADD R5, R5, #1
        RET
PRINT   ST R7, PRINT_R7
        ADD R0, R5, #0
        JSR PRINT_NUMBER
        LD R0, NEWLINE
        OUT
        LD R7, PRINT_R7
        RET
PRINT_R7
        .BLKW 1
QUIT    HALT
NEWLINE .FILL x0A
TABLE_AT
        .FILL TABLE
TABLE   .FILL x-69
        .FILL INCREMENT
        .FILL x-64
        .FILL DECREMENT
        .FILL x-74
        .FILL TWICE
        .FILL x-6E
        .FILL NEGATE
        .FILL x-70
        .FILL PRINT
        .FILL x-71
        .FILL QUIT
        .FILL 0
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
