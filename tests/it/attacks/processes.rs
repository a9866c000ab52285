//! What a server started ends with it, and no child reads what belongs to the gateway.
