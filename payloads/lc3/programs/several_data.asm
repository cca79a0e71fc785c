; Two segments: the list and its strings.
        .ORIG x5000
        .FILL ONE
        .FILL TWO
        .FILL THREE
        .FILL 0
        .END
        .ORIG x6000
ONE     .STRINGZ "one"
TWO     .STRINGZ "two"
THREE   .STRINGZ "three"
        .END
