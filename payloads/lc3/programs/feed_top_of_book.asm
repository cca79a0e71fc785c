; Keeps the order book of a feed and prints what is best at its end, by symbol:
;
;   warmfork replay day.pcap --decode itch --program feed_top_of_book.asm
;
;   1 0001869F 00018705      symbol, best bid, best ask: ticks of 1/10,000 dollar, in hexadecimal
;                            (00000000: nobody buys; FFFFFFFF: nobody sells)
;
; A message is a record of 16 words (hypervisor/feed/itch_record.hpp), stored by RECEIVE with its length before it:
;
;   #1 type  #2 symbol  #3 side (1 buy, 2 sell)  #4 #5 price  #6 #7 shares  #8 #9 reference  #10 #11 new reference
;
; All orders that live stand in a table, at the place that the low 12 bits of their reference say: 4,096 of 8 words.
; An order that is 4,096 references older than a new one, and lives still, loses its place to it.
;
;   #0 side, 0: nobody here  #1 symbol  #2 #3 price  #4 #5 shares
        .ORIG x3000
        LD  R0, BURST
        STI R0, IN_BURST
        LD  R0, STRIDE
        STI R0, IN_STRIDE

NEXT    STI R0, IN_WAIT
        LD  R4, BUFFER
        STI R4, IN_RECEIVE
        LDI R6, IN_COUNT
        BRnp MESSAGE
        JSR REPORT              ; nothing more will come
        HALT

; R4: the message, R6: how many are left
MESSAGE LDR R0, R4, #1
        LD  R1, MINUS_A
        ADD R0, R0, R1
        BRz ORDER               ; A: an order
        ADD R0, R0, #-2
        BRz REDUCE              ; C: executed in part, at another price
        ADD R0, R0, #-1
        BRz DELETE              ; D: deleted
        ADD R0, R0, #-1
        BRz REDUCE              ; E: executed in part
        ADD R0, R0, #-1
        BRz ORDER               ; F: an order whose owner is known
        ADD R0, R0, #-15
        BRz REPLACE             ; U: another price or size, and another reference
        ADD R0, R0, #-3
        BRz REDUCE              ; X: cancelled in part
TAKEN   LD  R0, STRIDE          ; all else does not change the book
        ADD R4, R4, R0
        ADD R6, R6, #-1
        BRp MESSAGE
        BR  NEXT

ORDER   LDR R0, R4, #8
        JSR PLACE
        LDR R0, R4, #3
        STR R0, R5, #0
        LDR R0, R4, #2
        STR R0, R5, #1
        JSR FILL
        BR  TAKEN

DELETE  LDR R0, R4, #8
        JSR PLACE
        AND R0, R0, #0
        STR R0, R5, #0
        BR  TAKEN

REPLACE LDR R0, R4, #8
        JSR PLACE
        LDR R2, R5, #0          ; side and symbol stay
        LDR R3, R5, #1
        AND R0, R0, #0
        STR R0, R5, #0
        LDR R0, R4, #10
        JSR PLACE
        STR R2, R5, #0
        STR R3, R5, #1
        JSR FILL
        BR  TAKEN

; Shares of 32 bits are subtracted in halves: what the low halves borrow the high ones pay.
REDUCE  LDR R0, R4, #8
        JSR PLACE
        LDR R0, R5, #4
        LDR R1, R4, #6
        JSR LESS                ; R2: the borrow
        NOT R1, R1
        ADD R1, R1, #1
        ADD R1, R0, R1
        STR R1, R5, #4
        LDR R0, R5, #5
        LDR R3, R4, #7
        NOT R3, R3
        ADD R3, R3, #1
        ADD R0, R0, R3
        NOT R2, R2
        ADD R2, R2, #1
        ADD R0, R0, R2
        STR R0, R5, #5
        BRnp TAKEN
        ADD R1, R1, #0
        BRnp TAKEN
        STR R0, R5, #0          ; none left: it is gone
        BR  TAKEN

; R5 = the place of the order with the reference R0.
PLACE   LD  R5, MASK
        AND R5, R5, R0
        ADD R5, R5, R5
        ADD R5, R5, R5
        ADD R5, R5, R5
        LD  R0, TABLE
        ADD R5, R5, R0
        RET

; Price and shares from the message R4 to the order R5.
FILL    LDR R0, R4, #4
        STR R0, R5, #2
        LDR R0, R4, #5
        STR R0, R5, #3
        LDR R0, R4, #6
        STR R0, R5, #4
        LDR R0, R4, #7
        STR R0, R5, #5
        RET

; R2 = 1 if R0 < R1, both from 0 to 65,535; else 0. Changes R3. Two numbers of the same sign can be subtracted; of two
; others the one that looks negative is the larger one.
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

BURST   .FILL #64
STRIDE  .FILL #17
BUFFER  .FILL x4000
TABLE   .FILL x5000
MASK    .FILL x0FFF
MINUS_A .FILL x-41
IN_RECEIVE .FILL xFE27
IN_BURST   .FILL xFE28
IN_STRIDE  .FILL xFE29
IN_COUNT   .FILL xFE2A
IN_WAIT    .FILL xFE2E

; --- the end: looks at all orders once for each symbol
REPORT  ST  R7, BACK
        AND R4, R4, #0
SYMBOL  ADD R4, R4, #1          ; R4: the symbol
        AND R0, R0, #0
        ST  R0, BID
        ST  R0, BID_HIGH
        NOT R0, R0
        ST  R0, ASK
        ST  R0, ASK_HIGH
        LD  R5, ORDERS          ; R5: the order
        LD  R6, PLACES          ; R6: how many are left
LOOK    LDR R0, R5, #1
        NOT R0, R0
        ADD R0, R0, #1
        ADD R0, R0, R4
        BRnp OTHER              ; another symbol's
        LDR R0, R5, #0
        BRz OTHER
        ADD R0, R0, #-1
        BRz BUYS

        LDR R0, R5, #3          ; an ask: better if it is below the best
        LD  R1, ASK_HIGH
        JSR BELOW
        BRp LOWER
        ADD R2, R2, #0
        BRn OTHER
        LDR R0, R5, #2
        LD  R1, ASK
        JSR BELOW
        BRnz OTHER
LOWER   LDR R0, R5, #2
        ST  R0, ASK
        LDR R0, R5, #3
        ST  R0, ASK_HIGH
        BR  OTHER

BUYS    LDR R1, R5, #3          ; a bid: better if the best is below it
        LD  R0, BID_HIGH
        JSR BELOW
        BRp HIGHER
        ADD R2, R2, #0
        BRn OTHER
        LDR R1, R5, #2
        LD  R0, BID
        JSR BELOW
        BRnz OTHER
HIGHER  LDR R0, R5, #2
        ST  R0, BID
        LDR R0, R5, #3
        ST  R0, BID_HIGH

OTHER   ADD R5, R5, #8
        ADD R6, R6, #-1
        BRp LOOK
        LD  R0, ZERO            ; symbols have one digit here
        ADD R0, R0, R4
        OUT
        LD  R0, BLANK
        OUT
        LD  R1, BID_HIGH
        JSR HEX
        LD  R1, BID
        JSR HEX
        LD  R0, BLANK
        OUT
        LD  R1, ASK_HIGH
        JSR HEX
        LD  R1, ASK
        JSR HEX
        LD  R0, NEWLINE
        OUT
        ADD R0, R4, #-8
        BRn SYMBOL
        LD  R7, BACK
        RET

; R2, and the condition: 1 if R0 < R1, 0 if they are the same, -1 if R0 > R1.
BELOW   ST  R7, BELOW_BACK
        LD  R2, LESS_AT
        JSRR R2
        ADD R2, R2, #0
        BRp BELOW_END
        NOT R3, R1
        ADD R3, R3, #1
        ADD R3, R0, R3
        BRz BELOW_END
        ADD R2, R2, #-1
BELOW_END
        LD  R7, BELOW_BACK
        ADD R2, R2, #0
        RET

; Prints R1 in four hexadecimal digits: the highest bit goes out on the left, four times each.
HEX     ST  R7, HEX_BACK
        AND R3, R3, #0
        ADD R3, R3, #4
DIGIT   AND R0, R0, #0
        AND R2, R2, #0
        ADD R2, R2, #4
BIT     ADD R0, R0, R0
        ADD R1, R1, #0
        BRzp CLEAR
        ADD R0, R0, #1
CLEAR   ADD R1, R1, R1
        ADD R2, R2, #-1
        BRp BIT
        ADD R2, R0, #-10
        BRn DECIMAL
        ADD R0, R0, #7          ; from behind 9 to A
DECIMAL LD  R2, ZERO
        ADD R0, R0, R2
        OUT
        ADD R3, R3, #-1
        BRp DIGIT
        LD  R7, HEX_BACK
        RET

ORDERS  .FILL x5000
PLACES  .FILL x1000
LESS_AT .FILL LESS
BID     .BLKW 1
BID_HIGH
        .BLKW 1
ASK     .BLKW 1
ASK_HIGH
        .BLKW 1
BACK    .BLKW 1
BELOW_BACK
        .BLKW 1
HEX_BACK
        .BLKW 1
ZERO    .FILL x30
BLANK   .FILL x20
NEWLINE .FILL x0A
        .END
