; One line of text.
        .ORIG x3000
        LEA R0, TEXT
        PUTS
        HALT
TEXT    .STRINGZ "Hello from the LC-3!\n"
        .END
