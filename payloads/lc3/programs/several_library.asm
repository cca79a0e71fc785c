; x4000: shows the string at R0 and a new line. Changes R0 and R7.
        .ORIG x4000
        ST R7, RETURN
        PUTS
        LD R0, NEWLINE
        OUT
        LD R7, RETURN
        RET
RETURN  .BLKW 1
NEWLINE .FILL x0A
        .END
