; Deals the numbers 1 ... 40 to the ports 1, 2 and 3 in turn.
        .ORIG x3000
        AND R1, R1, #0
        LD  R2, LAST
AGAIN   LD  R4, PUT1            ; the register of port 1; those of the next port are 16 further
        AND R5, R5, #0
        ADD R5, R5, #3
LOOP    ADD R1, R1, #1
        STR R1, R4, #0          ; PUT
        STR R1, R4, #1          ; FLUSH
        ADD R3, R1, R2
        BRz DONE
        ADD R4, R4, #15
        ADD R4, R4, #1
        ADD R5, R5, #-1
        BRp LOOP
        BR  AGAIN
DONE    HALT
LAST    .FILL #-40
PUT1    .FILL xFE3C
        .END
