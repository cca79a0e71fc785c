; Squares what comes at port 0 and sends it on from port 1, until the stream ends.
        .ORIG x3000
LOOP    STI R0, WAIT0           ; until there is a message, or never will be
        LDI R1, STATUS0         ; bit 15: there is one
        BRzp DONE
        LDI R1, DATA0
        STI R0, NEXT0
        AND R2, R2, #0
        ADD R3, R1, #0
MORE    BRz SEND
        ADD R2, R2, R1
        ADD R3, R3, #-1
        BR  MORE
SEND    STI R2, PUT1
        STI R2, FLUSH1
        BR  LOOP
DONE    HALT
STATUS0 .FILL xFE20
DATA0   .FILL xFE22
NEXT0   .FILL xFE26
WAIT0   .FILL xFE2E
PUT1    .FILL xFE3C
FLUSH1  .FILL xFE3D
        .END
