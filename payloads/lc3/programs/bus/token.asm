; Passes a token on: a word that comes at port 0 goes out at port 1, one larger. Ends when the stream does.
        .ORIG x3000
LOOP    STI R0, WAIT0
        LDI R1, STATUS0
        BRzp DONE
        LDI R1, DATA0
        STI R0, NEXT0
        ADD R1, R1, #1
        STI R1, PUT1
        STI R1, FLUSH1
        BR  LOOP
DONE    HALT
STATUS0 .FILL xFE20
DATA0   .FILL xFE22
NEXT0   .FILL xFE26
WAIT0   .FILL xFE2E
PUT1    .FILL xFE3C
FLUSH1  .FILL xFE3D
        .END
