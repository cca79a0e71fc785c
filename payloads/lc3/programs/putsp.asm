; PUTSP: two characters in a word, the low byte first, for texts of even and of odd length, and for an empty one.
        .ORIG x3000
        LEA R0, EVEN
        PUTSP
        LEA R0, ODD
        PUTSP
        LEA R0, EMPTY
        PUTSP
        LEA R0, LOW_NUL
        PUTSP
        LEA R0, EVEN
        PUTSP
        HALT
EVEN    .FILL x6162             ; "ba"
        .FILL x0A63             ; "c\n"
        .FILL x0000
ODD     .FILL x6F6E             ; "no"
        .FILL x0064             ; "d"
EMPTY   .FILL x0000
LOW_NUL .FILL x0A21             ; "!\n"
        .FILL x5800             ; ends at its low byte: the X is not shown
        .FILL x5858
        .END
