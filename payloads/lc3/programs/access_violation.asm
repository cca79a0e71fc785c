; A user program that reaches for the display itself: refused under strict privilege.
        .ORIG x3000
        LEA R0, TEXT
        PUTS
        LD R0, LETTER
        STI R0, DDR
        HALT
DDR     .FILL xFE06
LETTER  .FILL x58
TEXT    .STRINGZ "before"
        .END
