//! What two readers could read differently is refused: doubled members and headers, spellings that fold to one, two credentials.
