; IN: prompts, echoes, and hands the character over.
        .ORIG x3000
        LD R5, COUNT
AGAIN   IN
        ADD R0, R0, #1
        OUT
        LD R0, NEWLINE
        OUT
        ADD R5, R5, #-1
        BRp AGAIN
        HALT
COUNT   .FILL 3
NEWLINE .FILL x0A
        .END
