; The trap routines of warmfork's LC-3 OS, 2nd edition: entered in the caller's mode with the return address in R7, left
; by RET. R6 is the caller's and need not be a stack, so working registers are kept in cells of their own: the routines
; must not be entered again, from an interrupt, before they return.
;
;   x20 GETC   waits for a character; R0 = its code
;   x21 OUT    displays R0[7:0]
;   x22 PUTS   displays the words from R0 up to the first x0000
;   x23 IN     prompts, waits for a character, displays it; R0 = its code
;   x24 PUTSP  displays the bytes from R0, low byte of each word first, up to the first NUL byte
;   x25 HALT   stops the clock
;
; Every register but R7, and R0 of GETC and IN, is preserved; the condition codes are not.
; fatal.asm brings the interrupt vectors and the routine for all other traps, at x0501.

        .ORIG x0000
        .FILL x0501           ; x00
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; x10
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL OS_GETC         ; x20 GETC
        .FILL OS_OUT          ; x21 OUT
        .FILL OS_PUTS         ; x22 PUTS
        .FILL OS_IN           ; x23 IN
        .FILL OS_PUTSP        ; x24 PUTSP
        .FILL OS_HALT         ; x25 HALT
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; x30
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; x40
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; x50
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; x60
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; x70
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; x80
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; x90
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; xA0
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; xB0
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; xC0
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; xD0
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; xE0
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501           ; xF0
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .FILL x0501
        .END

        .ORIG x0200

OS_GETC LDI R0, KBSR
        BRzp OS_GETC
        LDI R0, KBDR
        RET

OS_OUT  ST R1, OUT_R1
OUT_WAIT
        LDI R1, DSR
        BRzp OUT_WAIT
        STI R0, DDR
        LD R1, OUT_R1
        RET
OUT_R1  .BLKW 1

OS_PUTS ST R0, PUTS_R0
        ST R1, PUTS_R1
        ST R2, PUTS_R2
        ADD R1, R0, #0
PUTS_NEXT
        LDR R0, R1, #0
        BRz PUTS_END
PUTS_WAIT
        LDI R2, DSR
        BRzp PUTS_WAIT
        STI R0, DDR
        ADD R1, R1, #1
        BRnzp PUTS_NEXT
PUTS_END
        LD R0, PUTS_R0
        LD R1, PUTS_R1
        LD R2, PUTS_R2
        RET
PUTS_R0 .BLKW 1
PUTS_R1 .BLKW 1
PUTS_R2 .BLKW 1

OS_IN   ST R7, IN_R7
        LEA R0, PROMPT
        PUTS
        GETC
        OUT
        LD R7, IN_R7
        RET
IN_R7   .BLKW 1

OS_PUTSP
        ST R0, PUTSP_R0
        ST R1, PUTSP_R1
        ST R2, PUTSP_R2
        ST R3, PUTSP_R3
        ST R4, PUTSP_R4
        ADD R1, R0, #0
PUTSP_NEXT
        LDR R2, R1, #0
        LD R3, LOW_BYTE
        AND R0, R2, R3
        BRz PUTSP_END
PUTSP_WAIT_LOW
        LDI R4, DSR
        BRzp PUTSP_WAIT_LOW
        STI R0, DDR
        ; There is no right shift: eight times, the top bit of R2 moves into the bottom of R0.
        AND R0, R0, #0
        AND R3, R3, #0
        ADD R3, R3, #8
PUTSP_SHIFT
        ADD R0, R0, R0
        ADD R2, R2, #0
        BRzp PUTSP_ZERO_BIT
        ADD R0, R0, #1
PUTSP_ZERO_BIT
        ADD R2, R2, R2
        ADD R3, R3, #-1
        BRp PUTSP_SHIFT
        ADD R0, R0, #0
        BRz PUTSP_END
PUTSP_WAIT_HIGH
        LDI R4, DSR
        BRzp PUTSP_WAIT_HIGH
        STI R0, DDR
        ADD R1, R1, #1
        BRnzp PUTSP_NEXT
PUTSP_END
        LD R0, PUTSP_R0
        LD R1, PUTSP_R1
        LD R2, PUTSP_R2
        LD R3, PUTSP_R3
        LD R4, PUTSP_R4
        RET
PUTSP_R0
        .BLKW 1
PUTSP_R1
        .BLKW 1
PUTSP_R2
        .BLKW 1
PUTSP_R3
        .BLKW 1
PUTSP_R4
        .BLKW 1

; Any word with bit 15 clear stops the clock. The return address is one in every program below x8000, and using it
; leaves every register as the program left it, for whoever looks at the stopped machine.
OS_HALT STI R7, MCR
        ST R0, HALT_R0          ; still here: the program lies above x7FFF, or somebody set the clock going again
        AND R0, R0, #0
        STI R0, MCR
        LD R0, HALT_R0
        BRnzp OS_HALT
HALT_R0 .BLKW 1

KBSR    .FILL xFE00
KBDR    .FILL xFE02
DSR     .FILL xFE04
DDR     .FILL xFE06
MCR     .FILL xFFFE
LOW_BYTE
        .FILL x00FF
PROMPT  .STRINGZ "Input a character> "
        .END
