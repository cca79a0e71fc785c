; Calls: Fibonacci numbers by recursion on the stack.
; Benchmark kernel: runs ITERATIONS rounds (0 counts as 65,536), then halts with a checksum in R0 and RESULT.
; native_kernels.cpp does the same in C++.

        .ORIG x3000
        LD R5, ITERATIONS
        AND R4, R4, #0          ; checksum
ROUND   AND R0, R4, #3          ; fib(12) to fib(15)
        ADD R0, R0, #12
        JSR FIB
        ADD R1, R0, #0
        ADD R0, R4, #0
        ADD R0, R0, #0          ; checksum = rotated left by one + fib
        BRn MIX_ODD
        ADD R0, R0, R0
        BRnzp MIX_ADD
MIX_ODD ADD R0, R0, R0
        ADD R0, R0, #1
MIX_ADD ADD R0, R0, R1
        ADD R4, R0, #0
        ADD R5, R5, #-1
        BRnp ROUND
        ST R0, RESULT
        HALT

; R0 = fib(R0). Changes R1.
FIB     ADD R1, R0, #-1
        BRnz FIB_END
        ADD R6, R6, #-2
        STR R7, R6, #0
        STR R0, R6, #1
        ADD R0, R0, #-1
        JSR FIB
        LDR R1, R6, #1
        STR R0, R6, #1
        ADD R0, R1, #-2
        JSR FIB
        LDR R1, R6, #1
        ADD R0, R0, R1
        LDR R7, R6, #0
        ADD R6, R6, #2
FIB_END RET
ITERATIONS
        .FILL 1000
RESULT  .FILL 0
        .END
