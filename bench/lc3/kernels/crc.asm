; CRC-16 (polynomial x1021), bit by bit, of 64 pseudo-random words; each round starts from the last one's.
; Benchmark kernel: runs ITERATIONS rounds (0 counts as 65,536), then halts with a checksum in R0 and RESULT.
; native_kernels.cpp does the same in C++.

        .ORIG x3000
        LD R5, ITERATIONS
        LD R1, SEED             ; R1 = x, R0 = crc
        AND R0, R0, #0
        LD R6, POLYNOMIAL
        NOT R7, R6
ROUND   LD R2, LENGTH
        ST R2, WORDS_LEFT
WORD    ADD R4, R1, R1          ; x = 5 x + 13
        ADD R4, R4, R4
        ADD R1, R1, R4
        ADD R1, R1, #13
        ADD R2, R1, #0          ; R2 = bits of the word, from the top
        AND R3, R3, #0
        ADD R3, R3, #15
        ADD R3, R3, #1
BIT     ADD R2, R2, #0
        BRn ONE
        ADD R0, R0, #0
        BRn DIVIDE
SHIFT   ADD R0, R0, R0
        BRnzp NEXT_BIT
ONE     ADD R0, R0, #0
        BRn SHIFT
DIVIDE  ADD R0, R0, R0          ; crc = (crc << 1) ^ polynomial
        NOT R4, R0
        AND R4, R4, R6
        AND R0, R0, R7
        ADD R0, R0, R4
NEXT_BIT
        ADD R2, R2, R2
        ADD R3, R3, #-1
        BRp BIT
        LD R2, WORDS_LEFT
        ADD R2, R2, #-1
        ST R2, WORDS_LEFT
        BRp WORD
        ADD R5, R5, #-1
        BRnp ROUND
        ST R0, RESULT
        HALT
ITERATIONS
        .FILL 2000
RESULT  .FILL 0
SEED    .FILL x4567
LENGTH  .FILL 64
WORDS_LEFT
        .BLKW 1
POLYNOMIAL
        .FILL x1021
        .END
