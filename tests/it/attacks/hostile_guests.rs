//! Guests written by hand, in ways no compiler would: nothing they do reaches beyond their budget.
