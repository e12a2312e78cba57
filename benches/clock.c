/* Starts commands and measures them, so that what starts them costs nothing worth counting: a small process that forks by vfork, in the
 * cgroup and with the environment that the commands are to have.
 *
 *   clock OUT ERR     OUT, ERR: files for the commands' output, emptied before each request
 *
 * A request on its input: the number of commands that are to run at the same time, and for each the number of its words and the words;
 * numbers end with a newline, words with a zero byte. The answer: microseconds from the first fork to the last end, and the first status
 * (as of the shell) that is not 0. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int number(void) {
    int n;
    return scanf("%d", &n) == 1 && getchar() == '\n' ? n : -1;
}

static char **words(void) {
    int n = number();
    if (n < 1)
        exit(2);
    char **list = calloc(n + 1, sizeof *list);
    for (int i = 0; i < n; i++) {
        size_t room = 0;
        if (getdelim(&list[i], &room, 0, stdin) < 1)
            exit(2);
    }
    return list;
}

static long long microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC), out = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600),
        err = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (null < 0 || out < 0 || err < 0)
        return 2;
    for (int count; (count = number()) > 0;) {
        char ***commands = calloc(count, sizeof *commands);
        for (int i = 0; i < count; i++)
            commands[i] = words();
        if (ftruncate(out, 0) || ftruncate(err, 0))
            return 2;
        int status;
        volatile int worst = 0;
        long long start = microseconds();
        for (volatile int i = 0; i < count; i++) {
            pid_t pid = vfork();
            if (pid == 0) {
                dup2(null, 0), dup2(out, 1), dup2(err, 2);
                execvp(commands[i][0], commands[i]);
                _exit(127);
            }
            if (pid < 0)
                return 2;
        }
        while (wait(&status) > 0)
            if (worst == 0)
                worst = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        printf("%lld %d\n", microseconds() - start, worst);
        fflush(stdout);
        for (int i = 0; i < count; i++) {
            for (char **word = commands[i]; *word; word++)
                free(*word);
            free(commands[i]);
        }
        free(commands);
    }
    return 0;
}
