; Insertion sort of signed numbers, shown before and after.
        .ORIG x3000
        JSR SHOW
        LD R1, ONE              ; R1 = how many are in order
OUTER   LD R2, MINUS_COUNT
        ADD R2, R1, R2
        BRz SORTED
        LD R3, DATA
        ADD R3, R3, R1          ; R3 = the place that is free
        LDR R0, R3, #0          ; R0 = the number to insert
INNER   LD R4, DATA
        NOT R4, R4
        ADD R4, R4, #1
        ADD R4, R3, R4          ; at the front?
        BRz INSERT
        LDR R4, R3, #-1
        ; R4 > R0, signed, without overflow: by sign first, by difference if the signs agree
        ADD R5, R0, #0
        BRn R0_NEGATIVE
        ADD R5, R4, #0
        BRn INSERT
        BRnzp COMPARE
R0_NEGATIVE
        ADD R5, R4, #0
        BRzp MOVE
COMPARE NOT R5, R0
        ADD R5, R5, #1
        ADD R5, R4, R5
        BRnz INSERT
MOVE    STR R4, R3, #0
        ADD R3, R3, #-1
        BRnzp INNER
INSERT  STR R0, R3, #0
        ADD R1, R1, #1
        BRnzp OUTER
SORTED  JSR SHOW
        HALT

; All numbers on a line.
SHOW    ST R7, SHOW_R7
        LD R1, DATA
        LD R2, MINUS_COUNT
SHOW_NEXT
        LDR R0, R1, #0
        JSR PRINT_NUMBER
        LD R0, BLANK
        OUT
        ADD R1, R1, #1
        ADD R2, R2, #1
        BRn SHOW_NEXT
        LD R0, NEWLINE
        OUT
        LD R7, SHOW_R7
        RET
SHOW_R7 .BLKW 1
ONE     .FILL 1
MINUS_COUNT
        .FILL #-15
DATA    .FILL NUMBERS
BLANK   .FILL x20
NEWLINE .FILL x0A
; Displays R0 as a signed decimal number. Changes R7 only.
PRINT_NUMBER
        ST R0, PN_R0
        ST R1, PN_R1
        ST R2, PN_R2
        ST R3, PN_R3
        ST R4, PN_R4
        ST R5, PN_R5
        ST R7, PN_R7
        ADD R1, R0, #0
        BRzp PN_POSITIVE
        LD R0, PN_MINUS
        OUT
        NOT R1, R1
        ADD R1, R1, #1
PN_POSITIVE
        LEA R2, PN_POWERS
        AND R3, R3, #0          ; positive once a digit has been shown
PN_DIGIT
        LDR R4, R2, #0
        BRz PN_LAST
        AND R0, R0, #0
PN_SUBTRACT
        ADD R5, R1, R4
        BRn PN_SHOW
        ADD R1, R5, #0
        ADD R0, R0, #1
        BRnzp PN_SUBTRACT
PN_SHOW ADD R3, R3, R0
        BRz PN_SKIP
        LD R5, PN_ZERO
        ADD R0, R0, R5
        OUT
PN_SKIP ADD R2, R2, #1
        BRnzp PN_DIGIT
PN_LAST LD R5, PN_ZERO
        ADD R0, R1, R5
        OUT
        LD R0, PN_R0
        LD R1, PN_R1
        LD R2, PN_R2
        LD R3, PN_R3
        LD R4, PN_R4
        LD R5, PN_R5
        LD R7, PN_R7
        RET
PN_POWERS
        .FILL #-10000
        .FILL #-1000
        .FILL #-100
        .FILL #-10
        .FILL #0
PN_MINUS
        .FILL x2D
PN_ZERO .FILL x30
PN_R0   .BLKW 1
PN_R1   .BLKW 1
PN_R2   .BLKW 1
PN_R3   .BLKW 1
PN_R4   .BLKW 1
PN_R5   .BLKW 1
PN_R7   .BLKW 1
NUMBERS
        .FILL #170
        .FILL #-45
        .FILL #75
        .FILL #-90
        .FILL #802
        .FILL #24
        .FILL #-2
        .FILL #66
        .FILL #0
        .FILL #32767
        .FILL #-32768
        .FILL #24
        .FILL #1
        .FILL #9999
        .FILL #-10000
        .END
