; Counts the packets of a feed and sums up all their words: warmfork replay day.pcap --program feed_count.asm
;
; The feed is at port 0. One RECEIVE stores a whole burst of messages, so that the cost of talking to the device is
; shared by all of them:
;
;   x4000  length │ words …            BURST messages at most, STRIDE words from one to the next
;   x4040  length │ words …
;
; At the end R1 is the number of packets (bits 15-0), R2 the sum of all words of them, modulo x10000, R3 how many were
; lost, and R5 how many bursts there were.
        .ORIG x3000
        LD  R0, BURST
        STI R0, IN_BURST
        LD  R0, STRIDE
        STI R0, IN_STRIDE
        AND R1, R1, #0
        AND R2, R2, #0
        AND R5, R5, #0

NEXT    STI R0, IN_WAIT         ; completes when there is a message, or never will be
        LD  R4, BUFFER
        STI R4, IN_RECEIVE      ; stores what is there, up to BURST messages
        LDI R6, IN_COUNT        ; how many that were
        BRz DONE                ; none: the stream has ended
        ADD R5, R5, #1
        ADD R1, R1, R6

MESSAGE LDR R3, R4, #0          ; words of this message
        BRz EMPTY
        ADD R0, R4, #0
WORD    LDR R7, R0, #1
        ADD R2, R2, R7
        ADD R0, R0, #1
        ADD R3, R3, #-1
        BRp WORD
EMPTY   LD  R0, STRIDE
        ADD R4, R4, R0
        ADD R6, R6, #-1
        BRp MESSAGE
        BR  NEXT

DONE    LDI R3, IN_LOST
        HALT

BUFFER  .FILL x4000
BURST   .FILL #64
STRIDE  .FILL x40               ; a length and up to 63 words: shorter than the longest frame, which is cut off
IN_LOST    .FILL xFE25
IN_RECEIVE .FILL xFE27
IN_BURST   .FILL xFE28
IN_STRIDE  .FILL xFE29
IN_COUNT   .FILL xFE2A
IN_WAIT    .FILL xFE2E
        .END
