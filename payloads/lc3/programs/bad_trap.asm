; A trap that nobody serves.
        .ORIG x3000
        LEA R0, TEXT
        PUTS
        TRAP x9F
        HALT
TEXT    .STRINGZ "before"
        .END
