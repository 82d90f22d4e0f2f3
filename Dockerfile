# The node agent and its plugins, for those who have docker or podman:
#   npm run build && docker build -t ns-net:0.1.0 .
# `npm run image` makes a smaller one without pulling anything.
FROM debian:bookworm-slim
COPY dist/bin /opt/ns-net/bin
ENTRYPOINT ["/opt/ns-net/bin/ns-net"]
CMD ["agent", "--install-from", "/opt/ns-net/bin"]
