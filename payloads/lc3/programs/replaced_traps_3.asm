; Replaces OUT by a routine of its own that shows every character twice, and adds trap x60, 3rd edition.
; PUTS is left alone: it has to work as ever.
        .ORIG x3000
        LD R0, LETTER_A
        OUT
        LEA R1, TWICE
        STI R1, OUT_VECTOR
        LEA R1, NEGATE
        STI R1, NEW_VECTOR
        OUT
        LEA R0, TEXT
        PUTS
        LD R0, MINUS_BANG
        TRAP x60
        OUT
        LD R0, NEWLINE
        OUT
        HALT

TWICE   ST R1, TWICE_R1
WAIT_1  LDI R1, DSR
        BRzp WAIT_1
        STI R0, DDR
WAIT_2  LDI R1, DSR
        BRzp WAIT_2
        STI R0, DDR
        LD R1, TWICE_R1
        RTI
TWICE_R1
        .BLKW 1

NEGATE  NOT R0, R0
        ADD R0, R0, #1
        RTI

LETTER_A
        .FILL x61
MINUS_BANG
        .FILL x-21
NEWLINE .FILL x0A
OUT_VECTOR
        .FILL x0021
NEW_VECTOR
        .FILL x0060
DSR     .FILL xFE04
DDR     .FILL xFE06
TEXT    .STRINGZ "bc"
        .END
