; The sieve of Eratosthenes up to about 2,000.
; Benchmark kernel: runs ITERATIONS rounds (0 counts as 65,536), then halts with a checksum in R0 and RESULT.
; native_kernels.cpp does the same in C++.

        .ORIG x3000
        LD R5, ITERATIONS
ROUND   LD R0, RESULT           ; the limit, 1900 to 2027, depends on the checksum
        LD R1, LOW_7
        AND R1, R0, R1
        LD R2, BASE
        ADD R6, R1, R2          ; R6 = limit, R7 = -limit
        NOT R7, R6
        ADD R7, R7, #1
        LD R1, FLAGS_AT
        AND R2, R2, #0
        ADD R3, R6, #0
CLEAR   STR R2, R1, #0
        ADD R1, R1, #1
        ADD R3, R3, #-1
        BRp CLEAR

        AND R0, R0, #0          ; R0 = sum of the primes
        AND R1, R1, #0
        ADD R1, R1, #2
NEXT    LD R2, FLAGS_AT
        ADD R2, R2, R1
        LDR R3, R2, #0
        BRnp COMPOSITE
        ADD R0, R0, R1
        ADD R3, R1, R1          ; R3 = multiple
        ADD R2, R2, R1
        ADD R4, R3, R7
        BRzp COMPOSITE
CROSS   STR R1, R2, #0
        ADD R2, R2, R1
        ADD R3, R3, R1
        ADD R4, R3, R7
        BRn CROSS
COMPOSITE
        ADD R1, R1, #1
        ADD R4, R1, R7
        BRn NEXT

        ADD R1, R0, #0
        LD R0, RESULT
        ADD R0, R0, #0          ; checksum = rotated left by one + sum
        BRn MIX_ODD
        ADD R0, R0, R0
        BRnzp MIX_ADD
MIX_ODD ADD R0, R0, R0
        ADD R0, R0, #1
MIX_ADD ADD R0, R0, R1
        ST R0, RESULT
        ADD R5, R5, #-1
        BRnp ROUND
        HALT
ITERATIONS
        .FILL 1000
RESULT  .FILL 0
LOW_7   .FILL x7F
BASE    .FILL 1900
FLAGS_AT
        .FILL FLAGS
FLAGS   .BLKW 2048
        .END
