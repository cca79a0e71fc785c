; Factorials up to 34!, 39 decimal digits: one digit in a word, lowest first.
        .ORIG x3000
        AND R5, R5, #0          ; R5 = n
        ADD R5, R5, #1
NEXT    LD R1, DIGITS_AT        ; DIGITS = DIGITS * n
        LD R2, COUNT
        AND R3, R3, #0          ; R3 = carry
DIGIT   LDR R0, R1, #0
        BRz CARRY
TIMES   ADD R3, R3, R5          ; carry + digit * n
        ADD R0, R0, #-1
        BRp TIMES
CARRY   AND R4, R4, #0          ; digit = it modulo 10, carry = it / 10
DIVIDE  ADD R0, R3, #-10
        BRn DIVIDED
        ADD R3, R0, #0
        ADD R4, R4, #1
        BRnzp DIVIDE
DIVIDED STR R3, R1, #0
        ADD R3, R4, #0
        ADD R1, R1, #1
        ADD R2, R2, #-1
        BRp DIGIT
        ADD R5, R5, #1
        LD R0, MINUS_END
        ADD R0, R5, R0
        BRnz NEXT

        LD R2, COUNT
ZEROS   ADD R1, R1, #-1         ; R1 stands behind the highest digit
        ADD R2, R2, #-1
        LDR R0, R1, #0
        BRz ZEROS
SHOW    LDR R0, R1, #0
        LD R3, ZERO
        ADD R0, R0, R3
        OUT
        ADD R1, R1, #-1
        ADD R2, R2, #-1
        BRzp SHOW
        LD R0, NEWLINE
        OUT
        HALT
COUNT   .FILL 45
MINUS_END
        .FILL #-34
ZERO    .FILL x30
NEWLINE .FILL x0A
DIGITS_AT
        .FILL DIGITS
DIGITS  .FILL 1
        .BLKW 44
        .END
