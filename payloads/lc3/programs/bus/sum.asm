; Adds up what comes at the ports 0, 1 and 2, one message of each in turn, and prints the sum when all have ended. A
; port that is not connected has ended from the beginning.
        .ORIG x3000
        AND R6, R6, #0          ; the sum
ROUND   LD  R4, STATUS0
        AND R5, R5, #0          ; messages of this round
        AND R3, R3, #0
        ADD R3, R3, #3
PORT    STR R0, R4, #14         ; WAIT
        LDR R1, R4, #0          ; STATUS: bit 15 says that there is a message
        BRzp NEXT
        LDR R1, R4, #2          ; DATA
        STR R0, R4, #6          ; NEXT
        ADD R6, R6, R1
        ADD R5, R5, #1
NEXT    ADD R4, R4, #15
        ADD R4, R4, #1
        ADD R3, R3, #-1
        BRp PORT
        ADD R5, R5, #0
        BRp ROUND

        LEA R4, POWERS          ; R6 in decimal, 0 ... 32767
        AND R5, R5, #0          ; nothing printed yet
DIGIT   LDR R3, R4, #0
        BRz LAST
        LD  R0, ZERO
COUNT   ADD R2, R6, R3
        BRn SHOW
        ADD R6, R2, #0
        ADD R0, R0, #1
        ADD R5, R5, #1
        BR  COUNT
SHOW    ADD R5, R5, #0
        BRz SKIP
        OUT
SKIP    ADD R4, R4, #1
        BR  DIGIT
LAST    LD  R0, ZERO
        ADD R0, R0, R6
        OUT
        LD  R0, NEWLINE
        OUT
        HALT
STATUS0 .FILL xFE20
ZERO    .FILL x30
NEWLINE .FILL x0A
POWERS  .FILL #-10000
        .FILL #-1000
        .FILL #-100
        .FILL #-10
        .FILL #0
        .END
