# Builds `pipe` from a clone: docker build -t lm-recipes .
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY recipes recipes
COPY benches benches
COPY examples examples
RUN cargo build --locked --profile dist --bin pipe

FROM debian:bookworm-slim
# git for `pipe ci`, certificates for remotes.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates git && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/dist/pipe /usr/local/bin/pipe
WORKDIR /work
ENTRYPOINT ["pipe"]
