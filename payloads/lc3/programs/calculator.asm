; A desk calculator: one calculation per line, from left to right, of numbers and + - * /. 'q' ends it.
        .ORIG x3000
LINE    AND R5, R5, #0          ; R5 = result so far
        LD R4, PLUS             ; R4 = operator that waits for its right side
        JSR READ
        LD R1, MINUS_Q
        ADD R1, R0, R1
        BRz QUIT
        LD R1, MINUS_MINUS
        ADD R1, R0, R1
        BRnp NUMBER
        LD R4, MINUS            ; a sign: 0 - number
        JSR READ
NUMBER  AND R3, R3, #0          ; R3 = number; R0 = the character at hand
DIGIT   LD R1, MINUS_ZERO
        ADD R1, R0, R1          ; R1 = digit
        BRn OPERATE
        ADD R2, R1, #-9
        BRp OPERATE
        ADD R2, R3, R3          ; 10 n = 2 (4 n + n)
        ADD R2, R2, R2
        ADD R3, R2, R3
        ADD R3, R3, R3
        ADD R3, R3, R1
        JSR READ
        BRnzp DIGIT

OPERATE ST R0, NEXT_OPERATOR
        LD R1, MINUS_PLUS
        ADD R1, R4, R1
        BRz DO_ADD
        LD R1, MINUS_MINUS
        ADD R1, R4, R1
        BRz DO_SUBTRACT
        LD R1, MINUS_TIMES
        ADD R1, R4, R1
        BRz DO_MULTIPLY
        ADD R3, R3, #0
        BRz BY_ZERO
        JSR DIVIDE
        BRnzp OPERATED
DO_SUBTRACT
        NOT R3, R3
        ADD R3, R3, #1
DO_ADD  ADD R5, R5, R3
        BRnzp OPERATED
DO_MULTIPLY
        JSR MULTIPLY
OPERATED
        LD R4, NEXT_OPERATOR
        ADD R1, R4, #-10        ; the end of the line?
        BRz SHOW
        JSR READ
        BRnzp NUMBER

SHOW    LEA R0, EQUALS
        PUTS
        ADD R0, R5, #0
        JSR PRINT_NUMBER
        LD R0, NEWLINE
        OUT
        BRnzp LINE

BY_ZERO LD R0, NEXT_OPERATOR    ; leave out the rest of the line
BZ_REST ADD R1, R0, #-10
        BRz BZ_SHOW
        JSR READ
        BRnzp BZ_REST
BZ_SHOW LEA R0, BY_ZERO_TEXT
        PUTS
        BRnzp LINE

QUIT    LD R0, NEWLINE
        OUT
        HALT

; Reads a character into R0 and shows it.
READ    ST R7, READ_R7
        GETC
        OUT
        LD R7, READ_R7
        RET
READ_R7 .BLKW 1

; R5 = R5 * R3, by shifting and adding. Changes R0, R1, R2, R3.
MULTIPLY
        AND R0, R0, #0
        ADD R1, R0, #1          ; the bit of R5 that is looked at
MUL_BIT AND R2, R5, R1
        BRz MUL_ZERO
        ADD R0, R0, R3
MUL_ZERO
        ADD R3, R3, R3
        ADD R1, R1, R1
        BRnp MUL_BIT
        ADD R5, R0, #0
        RET

; R5 = R5 / R3, towards zero, for R3 > 0. Changes R0, R1, R2, R3.
DIVIDE  NOT R3, R3
        ADD R3, R3, #1
        AND R0, R0, #0
        AND R1, R1, #0          ; 1: negate the result
        ADD R5, R5, #0
        BRzp DIV_STEP
        ADD R1, R1, #1
        NOT R5, R5
        ADD R5, R5, #1
DIV_STEP
        ADD R5, R5, R3
        BRn DIV_END
        ADD R0, R0, #1
        BRnzp DIV_STEP
DIV_END ADD R5, R0, #0
        ADD R1, R1, #0
        BRz DIV_DONE
        NOT R5, R5
        ADD R5, R5, #1
DIV_DONE
        RET

PLUS    .FILL x2B
MINUS   .FILL x2D
MINUS_PLUS
        .FILL x-2B
MINUS_MINUS
        .FILL x-2D
MINUS_TIMES
        .FILL x-2A
MINUS_Q .FILL x-71
MINUS_ZERO
        .FILL x-30
NEWLINE .FILL x0A
NEXT_OPERATOR
        .BLKW 1
EQUALS  .STRINGZ "= "
BY_ZERO_TEXT
        .STRINGZ "division by zero\n"
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
        .END
