; The first of three files: they meet at fixed addresses.
;   x3000  this file            x4000  several_library.asm           x5000, x6000  several_data.asm
        .ORIG x3000
        LD R2, LIST
NEXT    LDR R0, R2, #0          ; a list of strings, ended by 0
        BRz DONE
        LD R1, SHOW
        JSRR R1
        ADD R2, R2, #1
        BRnzp NEXT
DONE    HALT
LIST    .FILL x5000
SHOW    .FILL x4000
        .END
