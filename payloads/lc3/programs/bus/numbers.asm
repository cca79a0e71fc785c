; Sends the numbers 1 ... 40 from port 1, a message each, and halts: whoever receives them finds the stream ended then.
        .ORIG x3000
        AND R1, R1, #0
        LD  R2, LAST
LOOP    ADD R1, R1, #1
        STI R1, PUT1            ; a message of one word
        STI R1, FLUSH1          ; waits for room if need be
        ADD R3, R1, R2
        BRn LOOP
        HALT
LAST    .FILL #-40
PUT1    .FILL xFE3C
FLUSH1  .FILL xFE3D
        .END
