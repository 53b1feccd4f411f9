/* The clients of labvddk_test: each plays its part in a process of its own,
 * for the library may be started once and its rules end who breaks them. */
#ifndef LABVDDK_CLIENT_H
#define LABVDDK_CLIENT_H

#define LOGIN_SERVER "vc.lab"
#define LOGIN_USER   "root"
#define LOGIN_THUMB  "AA:BB"
#define LOGIN_VM     "moref=vm-12"
#define LOGIN_COOKIE "c00kie"

/* LIBRARY part LIBDIR path snapshot [file]; the exit code. */
int client_main(int argc, char **argv);

#endif
