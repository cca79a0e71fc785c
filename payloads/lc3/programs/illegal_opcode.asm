; Opcode 1101 under the OS: a message and the end.
        .ORIG x3000
        LEA R0, TEXT
        PUTS
        .FILL xDABC
        PUTS
        HALT
TEXT    .STRINGZ "before"
        .END
