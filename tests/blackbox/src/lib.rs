//! Black-box tests of the Postrider programs.
