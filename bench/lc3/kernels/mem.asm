; Loads and stores of every kind: one pass over an array per round.
; Benchmark kernel: runs ITERATIONS rounds (0 counts as 65,536), then halts with a checksum in R0 and RESULT.
; native_kernels.cpp does the same in C++.

        .ORIG x3000
        LD R5, ITERATIONS
        AND R0, R0, #0
ROUND   LD R1, FIRST
        LD R2, LENGTH           ; 511
STEP    LDR R3, R1, #0          ; a[i] = a[i] + a[i + 1] + (511 - i)
        LDR R4, R1, #1
        ADD R3, R3, R4
        ADD R3, R3, R2
        STR R3, R1, #0
        ADD R1, R1, #1
        ADD R2, R2, #-1
        BRp STEP
        LDI R3, FIRST           ; the last one takes in the first one
        LDI R4, LAST
        ADD R3, R3, R4
        STI R3, LAST
        LD R4, TOTAL
        ADD R4, R4, R3
        ST R4, TOTAL
        ADD R0, R0, #0          ; checksum = rotated left by one + total
        BRn MIX_ODD
        ADD R0, R0, R0
        BRnzp MIX_ADD
MIX_ODD ADD R0, R0, R0
        ADD R0, R0, #1
MIX_ADD ADD R0, R0, R4
        ADD R5, R5, #-1
        BRnp ROUND
        ST R0, RESULT
        HALT
ITERATIONS
        .FILL 10000
RESULT  .FILL 0
LENGTH  .FILL 511
TOTAL   .FILL 0
FIRST   .FILL x4000
LAST    .FILL x41FF
        .END
        .ORIG x4000
        .BLKW 512
        .END
