; Self-modifying code: every step writes the instruction that it then executes, every round a subroutine.
; Benchmark kernel: runs ITERATIONS rounds (0 counts as 65,536), then halts with a checksum in R0 and RESULT.
; native_kernels.cpp does the same in C++.

        .ORIG x3000
        LD R5, ITERATIONS
        LD R1, SEED
        AND R0, R0, #0
ROUND   LD R2, STEPS            ; 64
STEP    AND R3, R2, #7          ; the instruction for this step, R1 = f(R1), goes to PATCHED
        LEA R4, INSTRUCTIONS
        ADD R4, R4, R3
        LDR R3, R4, #0
        ST R3, PATCHED
        ADD R1, R1, #1
PATCHED NOP
        ADD R2, R2, #-1
        BRp STEP

        AND R3, R1, #7          ; a subroutine of two instructions and RET, chosen by R1
        LEA R4, INSTRUCTIONS
        ADD R4, R4, R3
        LEA R6, ROUTINE
        LDR R3, R4, #0
        STR R3, R6, #0
        LDR R3, R4, #1
        STR R3, R6, #1
        LD R3, RETURN
        STR R3, R6, #2
        JSRR R6
        ADD R0, R0, #0          ; checksum = rotated left by one + x
        BRn MIX_ODD
        ADD R0, R0, R0
        BRnzp MIX_ADD
MIX_ODD ADD R0, R0, R0
        ADD R0, R0, #1
MIX_ADD ADD R0, R0, R1
        ADD R5, R5, #-1
        BRnp ROUND
        ST R0, RESULT
        HALT
RETURN  RET
INSTRUCTIONS
        ADD R1, R1, #5
        NOT R1, R1
        ADD R1, R1, R1
        ADD R1, R1, #-3
        AND R1, R1, #-9
        ADD R1, R1, R2
        ADD R1, R1, #15
        NOT R1, R1
        ADD R1, R1, #5          ; the first again, for the pair that starts with the last
ROUTINE .BLKW 3
ITERATIONS
        .FILL 20000
RESULT  .FILL 0
SEED    .FILL x6789
STEPS   .FILL 64
        .END
