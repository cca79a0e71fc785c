; A small string library: length, copy, append, reverse, compare, find.
; Arguments in R0 and R1, results in R0; R0 to R4 may change, R5 and R6 do not.
        .ORIG x3000
        LEA R0, BUFFER          ; BUFFER = "stressed" + " " + "desserts"
        LEA R1, WORD
        JSR STR_COPY
        LEA R0, BUFFER
        LEA R1, SPACE
        JSR STR_APPEND
        LEA R0, BUFFER
        LEA R1, OTHER
        JSR STR_APPEND
        JSR SHOW_BUFFER
        LEA R0, BUFFER
        JSR STR_LENGTH
        JSR PRINT_NUMBER
        LEA R0, NEWLINE
        PUTS
        LEA R0, BUFFER
        LD R1, LETTER
        JSR STR_FIND
        JSR PRINT_NUMBER
        LEA R0, NEWLINE
        PUTS
        LEA R0, BUFFER          ; a palindrome: it stays as it is
        LEA R1, SPACE
        JSR STR_APPEND
        LEA R0, BUFFER
        JSR STR_REVERSE
        JSR SHOW_BUFFER
        LEA R0, WORD
        LEA R1, OTHER
        JSR STR_COMPARE
        JSR PRINT_NUMBER
        LEA R0, NEWLINE
        PUTS
        LEA R0, OTHER
        JSR STR_REVERSE
        LEA R0, WORD
        LEA R1, OTHER
        JSR STR_COMPARE
        JSR PRINT_NUMBER
        LEA R0, NEWLINE
        PUTS
        LEA R0, SPACE
        LEA R1, WORD
        JSR STR_COMPARE
        JSR PRINT_NUMBER
        LEA R0, NEWLINE
        PUTS
        HALT

SHOW_BUFFER
        ST R7, SHOW_R7
        LEA R0, QUOTE
        PUTS
        LEA R0, BUFFER
        PUTS
        LEA R0, QUOTE
        PUTS
        LEA R0, NEWLINE
        PUTS
        LD R7, SHOW_R7
        RET
SHOW_R7 .BLKW 1

; R0 = number of characters of the string at R0.
STR_LENGTH
        ADD R1, R0, #0
        AND R0, R0, #0
SL_NEXT LDR R2, R1, #0
        BRz SL_END
        ADD R0, R0, #1
        ADD R1, R1, #1
        BRnzp SL_NEXT
SL_END  RET

; Copies the string at R1 to R0.
STR_COPY
        LDR R2, R1, #0
        STR R2, R0, #0
        BRz SC_END              ; of the load: a store leaves the condition codes
        ADD R0, R0, #1
        ADD R1, R1, #1
        BRnzp STR_COPY
SC_END  RET

; Appends the string at R1 to the one at R0.
STR_APPEND
        LDR R2, R0, #0
        BRz STR_COPY
        ADD R0, R0, #1
        BRnzp STR_APPEND

; R0 = index of the first R1 in the string at R0, or -1.
STR_FIND
        NOT R1, R1
        ADD R1, R1, #1
        AND R3, R3, #0
SF_NEXT LDR R2, R0, #0
        BRz SF_NONE
        ADD R2, R2, R1
        BRz SF_FOUND
        ADD R0, R0, #1
        ADD R3, R3, #1
        BRnzp SF_NEXT
SF_NONE AND R3, R3, #0
        ADD R3, R3, #-1
SF_FOUND
        ADD R0, R3, #0
        RET

; Reverses the string at R0 in place.
STR_REVERSE
        ADD R1, R0, #0
SR_LAST LDR R2, R1, #0
        BRz SR_SWAP
        ADD R1, R1, #1
        BRnzp SR_LAST
SR_SWAP ADD R1, R1, #-1
        NOT R2, R0
        ADD R2, R2, #1
        ADD R2, R1, R2          ; R1 - R0
        BRnz SR_END
        LDR R3, R0, #0
        LDR R4, R1, #0
        STR R4, R0, #0
        STR R3, R1, #0
        ADD R0, R0, #1
        BRnzp SR_SWAP
SR_END  RET

; R0 = -1, 0 or 1 as the string at R0 sorts before, equal to or after the one at R1.
STR_COMPARE
        LDR R2, R0, #0
        LDR R3, R1, #0
        NOT R4, R3
        ADD R4, R4, #1
        ADD R4, R2, R4
        BRn SM_LESS
        BRp SM_MORE
        ADD R0, R0, #1
        ADD R1, R1, #1
        ADD R2, R2, #0
        BRnp STR_COMPARE
        AND R0, R0, #0
        RET
SM_LESS AND R0, R0, #0
        ADD R0, R0, #-1
        RET
SM_MORE AND R0, R0, #0
        ADD R0, R0, #1
        RET

LETTER  .FILL x20
WORD    .STRINGZ "stressed"
OTHER   .STRINGZ "desserts"
SPACE   .STRINGZ " "
QUOTE   .STRINGZ "\""
NEWLINE .STRINGZ "\n"
BUFFER  .BLKW 40
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
