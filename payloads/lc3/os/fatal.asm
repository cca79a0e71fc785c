; The part of warmfork's LC-3 OS that both editions share: exception and interrupt vectors, and the routines that end a
; program with a message. They say what happened and where, put every register back, and stop the clock:
;
;   *** Bad trap xF030 at x3001: halted
;
; Entries at fixed addresses, for the trap vectors:
;   x0500  a trap without a routine, 3rd edition: the return address is on the stack
;   x0501  the same, 2nd edition: the return address is in R7

        .ORIG x0100
        .FILL ON_PRIVILEGE    ; x00 RTI in user mode
        .FILL ON_OPCODE       ; x01 opcode 1101
        .FILL ON_ACCESS       ; x02 access violation
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; x10
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; x20
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; x30
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; x40
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; x50
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; x60
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; x70
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_KEYBOARD     ; x80 keyboard
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; x90
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; xA0
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; xB0
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; xC0
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; xD0
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; xE0
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED   ; xF0
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .FILL ON_UNEXPECTED
        .END

        .ORIG x0500
        BRnzp BAD_TRAP_3
        BRnzp BAD_TRAP_2

; Nobody asked for the keyboard's interrupts if this handler is still in place. The request stays up until somebody
; reads the character, so returning would lead straight back here: stop the requests instead, keep the character.
ON_KEYBOARD
        ADD R6, R6, #-1
        STR R0, R6, #0
        AND R0, R0, #0
        STI R0, KBSR
        LDR R0, R6, #0
        ADD R6, R6, #1
        RTI

; Each entry: R0 and R1 saved, R0 = message, R1 = address of the instruction.
BAD_TRAP_3
        ST R0, SAVED_R0
        ST R1, SAVED_R1
        LDR R1, R6, #0
        ADD R1, R1, #-1
        LD R0, TEXT_BAD_TRAP
        BRnzp FATAL
BAD_TRAP_2
        ST R0, SAVED_R0
        ST R1, SAVED_R1
        ADD R1, R7, #-1
        LD R0, TEXT_BAD_TRAP
        BRnzp FATAL
ON_PRIVILEGE
        ST R0, SAVED_R0
        LD R0, TEXT_PRIVILEGE
        BRnzp EXCEPTION
ON_OPCODE
        ST R0, SAVED_R0
        LD R0, TEXT_OPCODE
        BRnzp EXCEPTION
ON_ACCESS
        ST R0, SAVED_R0
        LD R0, TEXT_ACCESS
        BRnzp EXCEPTION
ON_UNEXPECTED
        ST R0, SAVED_R0
        LD R0, TEXT_UNEXPECTED
EXCEPTION
        ST R1, SAVED_R1
        LDR R1, R6, #0

; "\n*** R0's text xWORD at xADDRESS: halted\n"
FATAL   ST R2, SAVED_R2
        ST R3, SAVED_R3
        ST R4, SAVED_R4
        ST R5, SAVED_R5
        ST R7, SAVED_R7
        ADD R5, R1, #0
        JSR SHOW_TEXT
        LDR R1, R5, #0
        JSR SHOW_HEX
        LD R0, TEXT_AT
        JSR SHOW_TEXT
        ADD R1, R5, #0
        JSR SHOW_HEX
        LD R0, TEXT_HALTED
        JSR SHOW_TEXT
        LD R0, SAVED_R0
        LD R1, SAVED_R1
        LD R2, SAVED_R2
        LD R3, SAVED_R3
        LD R4, SAVED_R4
        LD R5, SAVED_R5
        LD R7, SAVED_R7
STOP    STI R6, MCR             ; a stack pointer below x8000 stops the clock and costs no register
        AND R7, R7, #0
        STI R7, MCR
        BRnzp STOP

; Displays the words from R0 up to x0000. Changes R0 and R4.
SHOW_TEXT
        ADD R4, R0, #0
SHOW_NEXT
        LDR R0, R4, #0
        BRz SHOW_END
SHOW_WAIT
        LDI R0, DSR
        BRzp SHOW_WAIT
        LDR R0, R4, #0
        STI R0, DDR
        ADD R4, R4, #1
        BRnzp SHOW_NEXT
SHOW_END
        RET

; Displays R1 as four hexadecimal digits. Changes R0 to R4.
SHOW_HEX
        AND R2, R2, #0
        ADD R2, R2, #4
HEX_DIGIT
        AND R0, R0, #0
        AND R3, R3, #0
        ADD R3, R3, #4
HEX_BIT ADD R0, R0, R0
        ADD R1, R1, #0
        BRzp HEX_ZERO_BIT
        ADD R0, R0, #1
HEX_ZERO_BIT
        ADD R1, R1, R1
        ADD R3, R3, #-1
        BRp HEX_BIT
        ADD R4, R0, #-10
        BRn HEX_DECIMAL
        ADD R0, R0, #7          ; from '9' + 1 to 'A'
HEX_DECIMAL
        LD R4, ZERO_CHARACTER
        ADD R0, R0, R4
HEX_WAIT
        LDI R4, DSR
        BRzp HEX_WAIT
        STI R0, DDR
        ADD R2, R2, #-1
        BRp HEX_DIGIT
        RET

SAVED_R0
        .BLKW 1
SAVED_R1
        .BLKW 1
SAVED_R2
        .BLKW 1
SAVED_R3
        .BLKW 1
SAVED_R4
        .BLKW 1
SAVED_R5
        .BLKW 1
SAVED_R7
        .BLKW 1
KBSR    .FILL xFE00
DSR     .FILL xFE04
DDR     .FILL xFE06
MCR     .FILL xFFFE
ZERO_CHARACTER
        .FILL x0030
TEXT_BAD_TRAP
        .FILL BAD_TRAP_STRING
TEXT_PRIVILEGE
        .FILL PRIVILEGE_STRING
TEXT_OPCODE
        .FILL OPCODE_STRING
TEXT_ACCESS
        .FILL ACCESS_STRING
TEXT_UNEXPECTED
        .FILL UNEXPECTED_STRING
TEXT_AT .FILL AT_STRING
TEXT_HALTED
        .FILL HALTED_STRING

BAD_TRAP_STRING
        .STRINGZ "\n*** Bad trap x"
PRIVILEGE_STRING
        .STRINGZ "\n*** RTI in user mode: x"
OPCODE_STRING
        .STRINGZ "\n*** Illegal opcode x"
ACCESS_STRING
        .STRINGZ "\n*** Access violation: x"
UNEXPECTED_STRING
        .STRINGZ "\n*** Unexpected interrupt or exception: x"
AT_STRING
        .STRINGZ " at x"
HALTED_STRING
        .STRINGZ ": halted\n"
        .END
