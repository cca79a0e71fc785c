; Sends an order to buy when somebody offers a symbol at a limit or less, after offers above it:
;
;   warmfork replay day.pcap --decode itch --program feed_trigger.asm --transmit orders.pcap
;
; It reads one message at a time, as soon as there is one, and answers from port 1:
;
;   number of the message it answers (low, high) │ type 'B' │ symbol │ price (low, high)
;
; By the number the host knows how long the answer took. At the end R5 is how many orders were sent, R6 how many offers
; of the symbol there were.
;
; A message is a record of 16 words (hypervisor/feed/itch_record.hpp): #1 type, #2 symbol, #3 side, #4 #5 price, with
; the length before it. Prices are ticks of 1/10,000 dollar.
        .ORIG x3000
        AND R5, R5, #0
        AND R6, R6, #0
        LEA R4, MESSAGE
NEXT    STI R0, IN_WAIT
        LDI R0, IN_SEQUENCE     ; before RECEIVE, which is done with it
        ST  R0, ANSWERS
        LDI R0, IN_SEQ_HIGH
        ST  R0, ANSWERS_HIGH
        STI R4, IN_RECEIVE      ; BURST is 1: this message
        LDI R0, IN_COUNT
        BRz DONE
        LDR R0, R4, #1          ; an order
        LD  R1, MINUS_A
        ADD R0, R0, R1
        BRnp NEXT
        LDR R0, R4, #3          ; to sell
        ADD R0, R0, #-2
        BRnp NEXT
        LDR R0, R4, #2          ; this symbol
        LD  R1, MINUS_SYMBOL
        ADD R0, R0, R1
        BRnp NEXT
        ADD R6, R6, #1

        LD  R0, LIMIT_HIGH      ; above the limit? by the high words, and if they are the same by the low ones
        LDR R1, R4, #5
        JSR LESS
        ADD R2, R2, #0
        BRp ABOVE
        NOT R3, R0
        ADD R3, R3, #1
        ADD R3, R3, R1
        BRnp CHEAP
        LD  R0, LIMIT
        LDR R1, R4, #4
        JSR LESS
        ADD R2, R2, #0
        BRz CHEAP
ABOVE   AND R0, R0, #0
        ADD R0, R0, #1
        ST  R0, WAS_ABOVE
        BR  NEXT

CHEAP   LD  R0, WAS_ABOVE
        BRz NEXT                ; it was before
        AND R0, R0, #0
        ST  R0, WAS_ABOVE
        LDR R0, R4, #2
        ST  R0, WHAT
        LDR R0, R4, #4
        ST  R0, PRICE
        LDR R0, R4, #5
        ST  R0, PRICE_HIGH
        LEA R0, ANSWER
        STI R0, OUT_SEND
        ADD R5, R5, #1
        BR  NEXT

DONE    HALT

; R2 = 1 if R0 < R1, both from 0 to 65,535; else 0. Changes R3.
LESS    AND R2, R2, #0
        ADD R0, R0, #0
        BRn LARGE
        ADD R1, R1, #0
        BRn YES
        BR  SAME
LARGE   ADD R1, R1, #0
        BRzp NO
SAME    NOT R3, R1
        ADD R3, R3, #1
        ADD R3, R0, R3
        BRzp NO
YES     ADD R2, R2, #1
NO      RET

MINUS_A .FILL x-41
MINUS_SYMBOL
        .FILL #-1
LIMIT   .FILL xA500             ; x0023A500 ticks: 233.60 dollars, for symbol 1 of what feed generate makes
LIMIT_HIGH
        .FILL x0023
WAS_ABOVE
        .FILL 0

ANSWER  .FILL #6                ; words of it
ANSWERS .FILL 0
ANSWERS_HIGH
        .FILL 0
        .FILL x42               ; 'B': buy
WHAT    .FILL 0
PRICE   .FILL 0
PRICE_HIGH
        .FILL 0

IN_SEQUENCE .FILL xFE23
IN_SEQ_HIGH .FILL xFE24
IN_RECEIVE  .FILL xFE27
IN_COUNT    .FILL xFE2A
IN_WAIT     .FILL xFE2E
OUT_SEND    .FILL xFE3B
MESSAGE .BLKW 1025
        .END
