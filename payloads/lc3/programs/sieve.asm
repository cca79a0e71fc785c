; The primes below 400, by the sieve of Eratosthenes.
        .ORIG x3000
        LD R1, FIRST            ; R1 = candidate
NEXT    LD R2, MINUS_LIMIT
        ADD R2, R1, R2
        BRzp DONE
        LD R3, TABLE
        ADD R3, R3, R1
        LDR R2, R3, #0
        BRnp COMPOSITE
        ADD R0, R1, #0
        JSR PRINT_NUMBER
        LD R0, BLANK
        OUT
        ADD R4, R1, R1          ; cross out 2p, 3p, ...
CROSS   LD R2, MINUS_LIMIT
        ADD R2, R4, R2
        BRzp COMPOSITE
        LD R3, TABLE
        ADD R3, R3, R4
        STR R1, R3, #0
        ADD R4, R4, R1
        BRnzp CROSS
COMPOSITE
        ADD R1, R1, #1
        BRnzp NEXT
DONE    LD R0, NEWLINE
        OUT
        HALT
FIRST   .FILL 2
MINUS_LIMIT
        .FILL #-400
TABLE   .FILL CELLS
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
CELLS   .BLKW 400
        .END
