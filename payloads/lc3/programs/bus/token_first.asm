; Sends the token 0 on its way from port 1, takes it at port 0, sends it on: 100 times. Prints "ok" if the last is 300:
; three machines, each of which adds one.
        .ORIG x3000
        AND R1, R1, #0
        LD  R2, ROUNDS
LOOP    STI R1, PUT1
        STI R1, FLUSH1
        STI R0, WAIT0
        LDI R1, STATUS0
        BRzp BAD
        LDI R1, DATA0
        STI R0, NEXT0
        ADD R1, R1, #1          ; one of the three is this one
        ADD R2, R2, #-1
        BRp LOOP
        LD  R3, RIGHT
        ADD R1, R1, R3
        BRnp BAD
        LEA R0, OK
        PUTS
        HALT
BAD     LEA R0, LOST
        PUTS
        HALT
ROUNDS  .FILL #100
RIGHT   .FILL #-300
STATUS0 .FILL xFE20
DATA0   .FILL xFE22
NEXT0   .FILL xFE26
WAIT0   .FILL xFE2E
PUT1    .FILL xFE3C
FLUSH1  .FILL xFE3D
OK      .STRINGZ "ok\n"
LOST    .STRINGZ "the token is lost\n"
        .END
