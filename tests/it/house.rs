//! What the gateway is as a house: what goes on while it is rebuilt, what it remembers, what it shows of itself.

mod control;
mod generations;
mod live;
mod reloads;
mod standing;
mod state;
mod telemetry;
