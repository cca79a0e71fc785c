; The trap routines of warmfork's LC-3 OS, 3rd edition: entered in supervisor mode with PSR and PC on the supervisor
; stack, left by RTI. Working registers are kept on that stack, so the routines can be interrupted and re-entered.
;
;   x20 GETC   waits for a character; R0 = its code
;   x21 OUT    displays R0[7:0]
;   x22 PUTS   displays the words from R0 up to the first x0000
;   x23 IN     prompts, waits for a character, displays it; R0 = its code
;   x24 PUTSP  displays the bytes from R0, low byte of each word first, up to the first NUL byte
;   x25 HALT   stops the clock
;
; Every register but R0 of GETC and IN is preserved, and RTI restores the caller's condition codes.
; fatal.asm brings the interrupt vectors and the routine for all other traps, at x0500.

        .ORIG x0000
        .FILL x0500           ; x00
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; x10
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL OS_GETC         ; x20 GETC
        .FILL OS_OUT          ; x21 OUT
        .FILL OS_PUTS         ; x22 PUTS
        .FILL OS_IN           ; x23 IN
        .FILL OS_PUTSP        ; x24 PUTSP
        .FILL OS_HALT         ; x25 HALT
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; x30
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; x40
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; x50
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; x60
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; x70
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; x80
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; x90
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; xA0
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; xB0
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; xC0
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; xD0
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; xE0
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500           ; xF0
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .FILL x0500
        .END

        .ORIG x0200

OS_GETC LDI R0, KBSR
        BRzp OS_GETC
        LDI R0, KBDR
        RTI

OS_OUT  ADD R6, R6, #-1
        STR R1, R6, #0
OUT_WAIT
        LDI R1, DSR
        BRzp OUT_WAIT
        STI R0, DDR
        LDR R1, R6, #0
        ADD R6, R6, #1
        RTI

OS_PUTS ADD R6, R6, #-3
        STR R0, R6, #0
        STR R1, R6, #1
        STR R2, R6, #2
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
        LDR R0, R6, #0
        LDR R1, R6, #1
        LDR R2, R6, #2
        ADD R6, R6, #3
        RTI

OS_IN   LEA R0, PROMPT
        PUTS
        GETC
        OUT
        RTI

OS_PUTSP
        ADD R6, R6, #-5
        STR R0, R6, #0
        STR R1, R6, #1
        STR R2, R6, #2
        STR R3, R6, #3
        STR R4, R6, #4
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
        LDR R0, R6, #0
        LDR R1, R6, #1
        LDR R2, R6, #2
        LDR R3, R6, #3
        LDR R4, R6, #4
        ADD R6, R6, #5
        RTI

; Any word with bit 15 clear stops the clock. R6 is one while it points into the supervisor stack, and using it leaves
; every register as the program left it, for whoever looks at the stopped machine.
OS_HALT STI R6, MCR
        ADD R6, R6, #-1         ; still here: the stack lies above x7FFF, or somebody set the clock going again
        STR R0, R6, #0
        AND R0, R0, #0
        STI R0, MCR
        LDR R0, R6, #0
        ADD R6, R6, #1
        BRnzp OS_HALT

KBSR    .FILL xFE00
KBDR    .FILL xFE02
DSR     .FILL xFE04
DDR     .FILL xFE06
MCR     .FILL xFFFE
LOW_BYTE
        .FILL x00FF
PROMPT  .STRINGZ "Input a character> "
        .END
