; RTI in user mode.
        .ORIG x3000
        NOP
        RTI
        HALT
        .END
