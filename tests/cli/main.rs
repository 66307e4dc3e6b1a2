//! The command line, as people use it.

#[path = "../common/mod.rs"]
mod common;

mod adapters;
mod beds;
mod budget;
mod cache;
mod chat;
mod checks;
mod ci;
mod cluster;
mod commands;
mod compare;
mod data;
mod data_around;
mod ensemble;
mod estimates;
mod expectations;
mod first_hour;
mod hub;
mod init;
mod install;
mod kubernetes;
mod live;
mod log;
mod mlflow;
mod mlflow_refusals;
mod needs;
mod outputs;
mod predict;
mod provenance;
mod ray;
mod reference;
mod report;
mod schema;
mod secrets;
mod session;
mod slurm;
mod sweep;
mod sweep_halving;
mod sweep_promotions;
mod sweep_search;
mod tensorboard;
mod transformers;
mod wide;
mod writing;
