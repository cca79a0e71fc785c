; Insertion sort of 128 pseudo-random 15-bit numbers.
; Benchmark kernel: runs ITERATIONS rounds (0 counts as 65,536), then halts with a checksum in R0 and RESULT.
; native_kernels.cpp does the same in C++.

        .ORIG x3000
        LD R5, ITERATIONS
ROUND   LD R1, SEED             ; fill: x = 5 x + 13, 15 bits of it
        LD R2, DATA
        LD R3, LENGTH
        LD R6, LOW_15
FILL    ADD R4, R1, R1
        ADD R4, R4, R4
        ADD R1, R1, R4
        ADD R1, R1, #13
        AND R4, R1, R6
        STR R4, R2, #0
        ADD R2, R2, #1
        ADD R3, R3, #-1
        BRp FILL
        ST R1, SEED

        LD R1, DATA             ; R1 = last of those in order
        LD R7, LENGTH
        ADD R7, R7, #-1
INSERT  LDR R2, R1, #1          ; R2 = the next one, R3 = -R2
        NOT R3, R2
        ADD R3, R3, #1
        ADD R4, R1, #0          ; R4 walks down; the word before the data is -1, less than all
WALK    LDR R6, R4, #0
        ADD R0, R6, R3
        BRnz PLACE
        STR R6, R4, #1
        ADD R4, R4, #-1
        BRnzp WALK
PLACE   STR R2, R4, #1
        ADD R1, R1, #1
        ADD R7, R7, #-1
        BRp INSERT

        LD R0, RESULT
        LD R1, DATA
        LD R3, LENGTH
SUM     LDR R2, R1, #0
        ADD R0, R0, #0          ; checksum = rotated left by one + a[i]
        BRn MIX_ODD
        ADD R0, R0, R0
        BRnzp MIX_ADD
MIX_ODD ADD R0, R0, R0
        ADD R0, R0, #1
MIX_ADD ADD R0, R0, R2
        ADD R1, R1, #1
        ADD R3, R3, #-1
        BRp SUM
        ST R0, RESULT
        ADD R5, R5, #-1
        BRnp ROUND
        HALT
ITERATIONS
        .FILL 1000
RESULT  .FILL 0
SEED    .FILL x3456
LENGTH  .FILL 128
LOW_15  .FILL x7FFF
DATA    .FILL SORTED
        .FILL #-1
SORTED  .BLKW 128
        .END
