; Snake, on the whole screen by ANSI escapes. w a s d turn, q quits. The keyboard is polled once per tick; a tick lasts
; as long as a delay loop, whose length the player chooses for the speed of the machine at hand.
;
; A place is a word: 32 * row + column. Rows 1-10 and columns 1-20 are free, everything around them is wall.
        .ORIG x3000
        LD R0, ASK_AT
        PUTS
        GETC
        LD R1, MINUS_NINE       ; 2^(9 - speed) rounds of the inner delay loop
        ADD R1, R0, R1
        AND R0, R0, #0
        ADD R0, R0, #1
        ADD R1, R1, #0
SPEED   BRzp SPEED_SET
        ADD R0, R0, R0
        ADD R1, R1, #1
        BRnzp SPEED
SPEED_SET
        ST R0, DELAY
        LD R0, CLEAR_AT
        PUTS
        JSR DRAW_BOARD
        AND R5, R5, #0          ; the snake: three places from (5, 5)
        ADD R5, R5, #3
FIRST   LD R0, HEAD
        ADD R0, R0, #1
        ST R0, HEAD
        JSR GROW
        ADD R5, R5, #-1
        BRp FIRST
        JSR SHOW_SCORE
        JSR NEW_FOOD

TICK    LD R0, SEED             ; when the player eats decides where food appears
        ADD R0, R0, #1
        ST R0, SEED
        LDI R0, KBSR
        BRzp MOVE
        LDI R0, KBDR
        LD R1, MINUS_Q
        ADD R1, R0, R1
        BRz QUIT
        LEA R1, KEYS
KEY     LDR R2, R1, #0
        BRz MOVE
        ADD R2, R0, R2
        BRz TURN
        ADD R1, R1, #2
        BRnzp KEY
TURN    LDR R2, R1, #1
        LD R3, DIRECTION
        ADD R3, R2, R3          ; straight back is no turn
        BRz MOVE
        ST R2, DIRECTION

MOVE    LD R0, HEAD
        LD R1, DIRECTION
        ADD R0, R0, R1
        ST R0, HEAD
        LD R1, GRID_AT
        ADD R1, R1, R0
        LDR R5, R1, #0          ; what was there: 0 nothing, 1 wall or snake, 2 food
        ADD R1, R5, #-1
        BRz OVER
        JSR GROW
        ADD R5, R5, #0
        BRz TAIL
        LD R0, SCORE
        ADD R0, R0, #1
        ST R0, SCORE
        JSR SHOW_SCORE
        JSR NEW_FOOD
        BRnzp PAUSE
TAIL    LD R1, RING_AT
        LD R2, OLDEST
        ADD R1, R1, R2
        LDR R0, R1, #0
        ADD R2, R2, #1
        LD R3, RING_MASK
        AND R2, R2, R3
        ST R2, OLDEST
        LD R1, GRID_AT
        ADD R1, R1, R0
        AND R2, R2, #0
        STR R2, R1, #0
        LD R1, BLANK
        JSR PLOT

PAUSE   LD R1, DELAY
PAUSE_OUTER
        LD R0, DELAY_INNER
PAUSE_INNER
        ADD R0, R0, #-1
        BRnp PAUSE_INNER
        ADD R1, R1, #-1
        BRp PAUSE_OUTER
        BRnzp TICK

QUIT    LD R5, BYE_AT
        BRnzp LEAVE
OVER    LD R5, OVER_AT
LEAVE   LD R0, LAST_LINE_AT
        PUTS
        ADD R0, R5, #0
        PUTS
        LD R0, RESTORE_AT
        PUTS
        HALT

KBSR    .FILL xFE00
KBDR    .FILL xFE02
MINUS_NINE
        .FILL x-39
MINUS_Q .FILL x-71
KEYS    .FILL x-77              ; w
        .FILL #-32
        .FILL x-61              ; a
        .FILL #-1
        .FILL x-73              ; s
        .FILL #32
        .FILL x-64              ; d
        .FILL #1
        .FILL 0
DIRECTION
        .FILL 1
HEAD    .FILL #164
SEED    .FILL #12345
SCORE   .FILL 0
NEWEST  .FILL 0                 ; indices into the ring
OLDEST  .FILL 0
DELAY   .FILL 1
DELAY_INNER
        .FILL xFFFF
RING_MASK
        .FILL xFF
COLUMN_MASK
        .FILL x1F
FOOD_MASK
        .FILL x1FF
MINUS_GRID_SIZE
        .FILL #-384
FIRST_FREE
        .FILL #33
COLUMNS .FILL #20
BODY    .FILL x6F
FOOD    .FILL x2A
BLANK   .FILL x20
ZERO    .FILL x30
SEMICOLON
        .FILL x3B
LETTER_H
        .FILL x48
GRID_AT .FILL GRID
RING_AT .FILL RING
ASK_AT  .FILL ASK_SPEED
CSI_AT  .FILL CSI
CLEAR_AT
        .FILL CLEAR
WALL_ROW_AT
        .FILL WALL_ROW
FREE_ROW_AT
        .FILL FREE_ROW_TEXT
SCORE_TEXT_AT
        .FILL SCORE_TEXT
LAST_LINE_AT
        .FILL LAST_LINE
BYE_AT  .FILL BYE
OVER_AT .FILL OVER_TEXT
RESTORE_AT
        .FILL RESTORE

; The snake takes the place R0: in the grid, in the ring of its places, on the screen. Preserves R5.
GROW    ST R7, GROW_R7
        LD R1, GRID_AT
        ADD R1, R1, R0
        AND R2, R2, #0
        ADD R2, R2, #1
        STR R2, R1, #0
        LD R1, RING_AT
        LD R2, NEWEST
        ADD R1, R1, R2
        STR R0, R1, #0
        ADD R2, R2, #1
        LD R3, RING_MASK
        AND R2, R2, R3
        ST R2, NEWEST
        LD R1, BODY
        JSR PLOT
        LD R7, GROW_R7
        RET
GROW_R7 .BLKW 1

; Puts food on a free place. The generator x -> 5x + 7 runs through all 65,536 words, so through every place.
NEW_FOOD
        ST R7, FOOD_R7
FOOD_TRY
        LD R0, SEED
        ADD R1, R0, R0
        ADD R1, R1, R1
        ADD R0, R0, R1
        ADD R0, R0, #7
        ST R0, SEED
        LD R1, FOOD_MASK
        AND R0, R0, R1
        LD R1, MINUS_GRID_SIZE
        ADD R1, R0, R1
        BRzp FOOD_TRY
        LD R1, GRID_AT
        ADD R1, R1, R0
        LDR R2, R1, #0
        BRnp FOOD_TRY
        ADD R2, R2, #2
        STR R2, R1, #0
        LD R1, FOOD
        JSR PLOT
        LD R7, FOOD_R7
        RET
FOOD_R7 .BLKW 1

; Shows the character R1 at the place R0. Preserves R5.
PLOT    ST R7, PLOT_R7
        ST R1, PLOT_CHARACTER
        LD R2, COLUMN_MASK
        AND R2, R0, R2          ; column
        AND R3, R3, #0          ; row
        ADD R4, R0, #0
PLOT_ROW
        ADD R4, R4, #-16
        ADD R4, R4, #-16
        BRn PLOT_SHOW
        ADD R3, R3, #1
        BRnzp PLOT_ROW
PLOT_SHOW
        LD R0, CSI_AT
        PUTS
        ADD R0, R3, #1
        JSR SHOW_SMALL
        LD R0, SEMICOLON
        OUT
        ADD R0, R2, #1
        JSR SHOW_SMALL
        LD R0, LETTER_H
        OUT
        LD R0, PLOT_CHARACTER
        OUT
        LD R7, PLOT_R7
        RET
PLOT_R7 .BLKW 1
PLOT_CHARACTER
        .BLKW 1

SHOW_SCORE
        ST R7, SCORE_R7
        LD R0, SCORE_TEXT_AT
        PUTS
        LD R0, SCORE
        JSR SHOW_SMALL
        LD R7, SCORE_R7
        RET
SCORE_R7
        .BLKW 1

; Shows R0, from 0 to 99. Changes R0, R1, R4.
SHOW_SMALL
        ST R7, SMALL_R7
        AND R4, R4, #0
SMALL_TENS
        ADD R1, R0, #-10
        BRn SMALL_SHOW
        ADD R0, R1, #0
        ADD R4, R4, #1
        BRnzp SMALL_TENS
SMALL_SHOW
        LD R1, ZERO
        ADD R4, R4, #0
        BRz SMALL_ONES
        ST R0, SMALL_ONES_LEFT
        ADD R0, R4, R1
        OUT
        LD R0, SMALL_ONES_LEFT
SMALL_ONES
        ADD R0, R0, R1
        OUT
        LD R7, SMALL_R7
        RET
SMALL_R7
        .BLKW 1
SMALL_ONES_LEFT
        .BLKW 1

; Shows the walls, and marks all places 1 but the free ones.
DRAW_BOARD
        ST R7, BOARD_R7
        LD R0, WALL_ROW_AT
        PUTS
        AND R5, R5, #0
        ADD R5, R5, #10
BOARD_ROW
        LD R0, FREE_ROW_AT
        PUTS
        ADD R5, R5, #-1
        BRp BOARD_ROW
        LD R0, WALL_ROW_AT
        PUTS
        LD R1, GRID_AT
        LD R2, MINUS_GRID_SIZE
        AND R3, R3, #0
        ADD R3, R3, #1
BOARD_FILL
        STR R3, R1, #0
        ADD R1, R1, #1
        ADD R2, R2, #1
        BRn BOARD_FILL
        LD R1, GRID_AT
        LD R2, FIRST_FREE
        ADD R1, R1, R2
        AND R3, R3, #0
        ADD R4, R3, #10
FREE_ROW
        LD R2, COLUMNS
FREE_PLACE
        STR R3, R1, #0
        ADD R1, R1, #1
        ADD R2, R2, #-1
        BRp FREE_PLACE
        ADD R1, R1, #12         ; to the next row
        ADD R4, R4, #-1
        BRp FREE_ROW
        LD R7, BOARD_R7
        RET
BOARD_R7
        .BLKW 1

CSI     .STRINGZ "\e["
ASK_SPEED
        .STRINGZ "Speed, 0 (slow) to 9 (fast): "
CLEAR   .STRINGZ "\e[2J\e[?25l\e[H"
WALL_ROW
        .STRINGZ "######################\r\n"
FREE_ROW_TEXT
        .STRINGZ "#                    #\r\n"
SCORE_TEXT
        .STRINGZ "\e[13;1HScore "
LAST_LINE
        .STRINGZ "\e[14;1H"
BYE     .STRINGZ "Bye"
OVER_TEXT
        .STRINGZ "Game over"
RESTORE .STRINGZ "\e[?25h\n"
RING    .BLKW 256
GRID    .BLKW 384
        .END
