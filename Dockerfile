ARG BASE=busybox
FROM $BASE AS one
LABEL a=b c="d e"
ENV X=1 Y="two words"
ARG V=def
RUN echo $V > /v && echo $X
WORKDIR /w
COPY . .
COPY --chown=1000:1000 a.txt /c/
ADD sub/ /added/
USER 1000
FROM busybox
COPY --from=one /v /v
COPY --from=one /w /w
EXPOSE 80/tcp
VOLUME /data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
SHELL ["/bin/sh","-ec"]
ONBUILD RUN echo onb
ENTRYPOINT ["sh","-c"]
CMD ["find /w | sort; cat /v"]
