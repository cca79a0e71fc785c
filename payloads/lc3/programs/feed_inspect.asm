; Looks into every packet of a feed, and is quick about it:
;
;   warmfork feed generate day.pcap --content raw --packets 131072
;   warmfork replay day.pcap --line-rate 10G --seconds 10 --ring 256M --program feed_inspect.asm
;
; Of each frame it reads the length, the EtherType, the length in the UDP header and the low word of the number that
; `feed generate --content raw` puts at the beginning of what UDP carries: 15 instructions. Numbers must follow each
; other, and that shows packets that were lost on the way here as well as those that the reader was too slow for.
;
;   #0 length │ #1 … #7 Ethernet, EtherType last │ #8 … #17 IPv4 │ #18 … #21 UDP, #20 its length │ #22 … #25 number
;
; At the end R1 is the sum of the lengths in the UDP headers, modulo x10000; R2 how often a number did not follow the one
; before it (not counting the first; a file that is repeated begins anew, unless it has a multiple of 65,536 packets);
; R3 how many messages were lost; R4 how many frames were too short or not IPv4, of which nothing more was read; R5 how
; many packets there were, and R6 how many bursts, bits 15-0 of both.
        .ORIG x3000
        LD  R0, BURST
        STI R0, IN_BURST
        LD  R5, STRIDE
        STI R5, IN_STRIDE
        AND R1, R1, #0
        LD  R3, MINUS_LENGTH
        LD  R7, MINUS_IPV4
        STI R0, IN_WAIT
        LD  R4, BUFFER
        STI R4, IN_RECEIVE
        LDR R2, R4, #25         ; the first number is the one expected
        NOT R2, R2
        ADD R2, R2, #1          ; R2: minus the next number
        BR  FIRST

NEXT    STI R0, IN_WAIT         ; completes when there is a message, or never will be
        LD  R4, BUFFER
        STI R4, IN_RECEIVE      ; stores what is there, up to BURST messages
FIRST   LDI R6, IN_COUNT        ; how many that were
        BRz DONE                ; none: the stream has ended
        LD  R0, PACKETS
        ADD R0, R0, R6
        ST  R0, PACKETS
        LD  R0, BURSTS
        ADD R0, R0, #1
        ST  R0, BURSTS

MESSAGE LDR R0, R4, #0
        ADD R0, R0, R3
        BRn OTHER               ; too short to have a number
        LDR R0, R4, #7
        ADD R0, R0, R7
        BRnp OTHER              ; not IPv4
        LDR R0, R4, #20
        ADD R1, R1, R0
        LDR R0, R4, #25
        ADD R0, R0, R2
        BRnp BREAK              ; not the number that follows
        ADD R2, R2, #-1
SAME    ADD R4, R4, R5
        ADD R6, R6, #-1
        BRp MESSAGE
        BR  NEXT

BREAK   LDR R2, R4, #25
        NOT R2, R2              ; minus the one that follows it
        LD  R0, BREAKS
        ADD R0, R0, #1
        ST  R0, BREAKS
        BR  SAME

OTHER   LD  R0, OTHERS
        ADD R0, R0, #1
        ST  R0, OTHERS
        BR  SAME

DONE    LD  R2, BREAKS
        LDI R3, IN_LOST
        LD  R4, OTHERS
        LD  R5, PACKETS
        LD  R6, BURSTS
        HALT

BUFFER  .FILL x4000
BURST   .FILL #256
STRIDE  .FILL #32               ; a length and 31 words: the shortest frame, whole; of longer ones the beginning
MINUS_LENGTH .FILL #-25
MINUS_IPV4   .FILL xF800
IN_LOST    .FILL xFE25
IN_RECEIVE .FILL xFE27
IN_BURST   .FILL xFE28
IN_STRIDE  .FILL xFE29
IN_COUNT   .FILL xFE2A
IN_WAIT    .FILL xFE2E
PACKETS .FILL #0
BURSTS  .FILL #0
BREAKS  .FILL #0
OTHERS  .FILL #0
        .END
