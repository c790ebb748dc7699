"""The catalogue of everything that can be wrong: one code, one cause, one remedy.

Keeps: every stable code of the project, with the exit status and the HTTP status it travels as.
Leaves to others: how an error is shown (``keyturn.cli``, ``keyturn.edge.web``), and what is logged.

Two things are never mixed:

- A *broken proof*, bad input or a fault raises :class:`KeyturnError`.
- A business "no" is a value, :class:`Refused`: the question was understood and the answer is no.

Codes are part of the protocol: they are never renamed, and an unknown code is shown as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

EXIT_OK = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_MALFORMED = 4
EXIT_FORBIDDEN = 5
EXIT_INTERNAL = 6


class Entry(NamedTuple):
    """One line of the catalogue. ``remedy`` tells a person the one thing to do."""

    code: str
    exit: int
    status: int
    title: str
    remedy: str


_ENTRIES = (
    # The answer is no (exit 1).
    Entry("key_unknown", 1, 404, "This product key is not known for this product",
          "Check that key and product belong together; ask the publisher with the product ID."),
    Entry("key_blocked", 1, 403, "This product key was blocked by its publisher",
          "Ask the publisher for a new key; quote the product ID."),
    Entry("key_foreign", 1, 403, "This product key belongs to another organization",
          "Use a key that was issued to this organization; ask the publisher if that is wrong."),
    Entry("limit_reached", 1, 409, "Every seat of this product key is taken",
          "Return a seat with `keyturn deactivate` on a computer that no longer needs it, or ask for more seats."),
    Entry("hardware_ambiguous", 1, 409, "This computer cannot be told apart from others that hold a seat",
          "Ask the publisher's staff, quoting the product ID: they can see which seats are meant."),
    Entry("rearm_limit_reached", 1, 409, "The grace period of this copy was begun anew as often as it can be", "Activate it: `keyturn activate`."),
    Entry("move_limit_reached", 1, 409, "This installation was moved to new hardware too often this year",
          "Return the seat on the old computer, or ask the publisher's staff to reclaim it."),
    Entry("return_limit_reached", 1, 409, "The yearly allowance of returned seats is used up",
          "Keep the seat where it is, or ask the publisher's staff to reclaim it."),
    Entry("hardware_other", 1, 409, "This activation was made for other hardware",
          "Activate this computer itself: `keyturn activate`, or by the fleet manager."),
    Entry("rebind_unknown", 1, 404, "No activation of this hardware is kept by the fleet manager",
          "Activate it instead: `keyturn fleet activate --computer ID`."),
    Entry("computer_unknown", 1, 404, "The fleet manager does not know this computer", "Enroll it again: `keyturn agent enroll --token-file F`."),
    Entry("request_superseded", 1, 409, "The activation this request led to has ended",
          "Run `keyturn activate` again: it makes a new request."),
    Entry("weak_evidence_refused", 1, 403, "This computer shows too little hardware to be told from others",
          "Run once as root so that firmware identifiers can be read, or ask the publisher about an activation host."),
    Entry("ephemeral_refused", 1, 403, "This computer keeps nothing, so a seat here would be lost at its next start",
          "Put the store on a volume that lasts (`--home DIR`), use an activation host, or pass `--allow-ephemeral`."),
    Entry("threshold_not_met", 1, 409, "The activation host has not seen enough computers yet",
          "Let more computers ask this host, as many as the detail says; this one is noted and tries again by itself."),
    Entry("host_full", 1, 409, "The activation host serves as many computers as it may",
          "Use another activation host, or ask your organization's administrator for a larger capacity."),
    Entry("host_required", 1, 403, "This key is activated by an activation host, not by the publisher's service",
          "Ask your organization's administrator for the activation host, or install a retail key or a MAK."),
    Entry("not_accepted", 1, 403, "This ID is not accepted",
          "Compare it with the one that the computer shows; if it is the same, ask the publisher's staff."),
    Entry("staff_required", 1, 403, "A person of the publisher decides about this call", "Call the publisher's staff, and say the installation ID to them."),
    Entry("not_by_telephone", 1, 409, "This cannot be activated by telephone",
          "Activate it online (`keyturn activate`), or by a file: `keyturn export request -o F.ktx`."),
    Entry("nothing_to_serve", 1, 409, "This host key's organization has no `client` key that could be served",
          "Ask the publisher for one, whose staff makes it (`keyturn service key mint --channel client --org NAME`); then say the same"
          " installation ID again."),
    Entry("release_unknown", 1, 404, "There is no such activation to return",
          "Nothing to do: the seat is not held by this installation."),
    Entry("not_licensed", 1, 403, "This product is not licensed on this computer",
          "Run `keyturn status` to see why, then `keyturn activate`."),
    Entry("feature_not_licensed", 1, 403, "The license of this computer does not include this feature",
          "Ask the publisher for an edition that includes it."),
    Entry("product_unknown", 1, 404, "The service does not know this product", "Check the product file with `keyturn inspect`."),
    Entry("not_found", 1, 404, "There is nothing of that name", "List what exists with the verb `list`."),
    Entry("check_failed", 1, 500, "A check found something that is not as it must be", "Do what stands beside the check, then verify again."),
    Entry("already_exists", 1, 409, "That name is taken", "Choose another name, or use what exists."),
    # The command cannot be carried out as it stands (exit 2).
    Entry("usage", 2, 400, "The command line is not understood", "Run the command with --help."),
    Entry("home_foreign", 2, 400, "This home belongs to another Keyturn program", "Use the command line printed in the detail."),
    Entry("not_initialised", 2, 400, "There is nothing here yet", "Run `keyturn service init --publisher NAME` first."),
    Entry("already_initialised", 2, 409, "This home is initialised already", "Use it as it is (`--if-needed`), or choose another --home."),
    Entry("product_missing", 2, 400, "No product is added on this computer", "Run `keyturn product add FILE` with the publisher's product file."),
    Entry("product_ambiguous", 2, 400, "Several products match", "Name one with --product SLUG or --product THUMBPRINT/SLUG."),
    Entry("key_missing", 2, 400, "No product key is installed", "Run `keyturn install-key` or `keyturn activate KEY`."),
    Entry("confirmation_required", 2, 400, "This changes something that cannot be undone, so it needs a yes", "Repeat it with --yes."),
    Entry("extra_missing", 2, 500, "This verb needs a part that is not installed", "Install it with the line in the detail."),
    Entry("loopback_only", 2, 400, "The service would listen beyond this computer as root", "Run it as a user of its own, or pass --allow-root."),
    Entry("store_newer", 2, 500, "This store was written by a newer Keyturn", "Install that version or a newer one; nothing was changed."),
    Entry("agent_running", 2, 409, "An agent runs for this store already", "Nothing to do; to run another one, stop that one first."),
    Entry("listen_failed", 2, 500, "That address cannot be listened on", "Choose another with --listen HOST:PORT, or stop what uses it."),
    # Somebody cannot be reached (exit 3).
    Entry("service_unreachable", 3, 503, "The activation service cannot be reached",
          "Check the network and the proxy, try again later, use a file (`keyturn export request -o F.ktx`), or a telephone:"
          " `keyturn installation-id`."),
    Entry("service_unready", 3, 503, "The activation service says it is not ready, so nothing was sent", "Try again later; nothing is lost."),
    Entry("signer_unavailable", 3, 503, "The service cannot sign just now",
          "Try again when it says so; what was decided is recorded, and the same request gets its certificate."),
    Entry("too_many_requests", 3, 429, "Too much is asked at once", "Wait as long as it says, then try again; nothing is lost, and what is activated stays so."),
    Entry("tls_untrusted", 3, 502, "The service's certificate is not trusted",
          "Check the address and this computer's clock; a private authority is named with --ca-bundle FILE."),
    Entry("dns_unreachable", 3, 503, "The name server does not answer", "Check the address of the server that takes updates, and the firewall between."),
    Entry("directory_unreachable", 3, 503, "The directory of computers does not answer, or its certificate is not trusted",
          "Check address, port and firewall; a private authority is named with --ca-file F."),
    Entry("directory_refused", 5, 403, "The directory of computers does not answer this question",
          "Check --bind-dn, the password, --base, and what this account may read."),
    Entry("dns_refused", 5, 403, "The name server does not allow this change", "Give the host a TSIG key that may change the zone, or copy the lines of `keyturn host publish --print`."),
    Entry("host_not_found", 3, 502, "No activation host was found",
          "Name it with --host NAME[:PORT], or ask your administrator whether DNS names one (_keyturn._tcp)."),
    Entry("fleet_untrusted", 3, 502, "This is not the organization's fleet manager, so nothing was sent",
          "Ask your administrator for a new enrollment token: `keyturn fleet token create`."),
    Entry("host_lapsed", 3, 503, "The activation host's own certificate has ended, so it gives no lease",
          "Renew it on the host: `keyturn host activate`; computers that hold a lease stay licensed, and other hosts go on."),
    Entry("host_untrusted", 3, 502, "This is not an activation host of the organization, so nothing was sent",
          "Ask your administrator which host is the right one; `keyturn doctor` names those that were found."),
    Entry("answer_unexpected", 3, 502, "The answer did not come from an activation service", "Check the address, and whether a portal or proxy answers in its place."),
    Entry("link_down", 3, 503, "No connection is up, and none is opened by itself",
          "Connect this computer, then try again; the line `dial = \"allow\"` of a policy lets Keyturn dial. Or use a file: `keyturn export request -o F.ktx`."),
    Entry("link_metered", 3, 503, "The only connection is paid by use, so nothing was sent",
          "Connect another way, then try again; the line `metered = \"allow\"` of a policy lets Keyturn use this one."),
    Entry("desktop_unreachable", 3, 503, "No notification could be shown on a desktop",
          "Run it in a desktop session that has gdbus (Debian: libglib2.0-bin) or notify-send; `keyturn remind` says the same here."),
    Entry("agent_unreachable", 3, 503, "The agent does not answer", "See whether it runs: `systemctl status keyturn-agent`; without it `keyturn status` still works."),
    # What was given is broken (exit 4).
    Entry("key_malformed", 4, 400, "This is not a complete product key", "Compare it with the key as it was issued: 5 groups of 5 symbols."),
    Entry("key_mistyped", 4, 400, "There is a typing mistake in this product key", "Look at the groups named in the detail."),
    Entry("words_mistyped", 4, 400, "These are not the words of a key", "Compare them with the sheet of paper, word by word."),
    Entry("code_malformed", 4, 400, "This is not a complete installation or confirmation ID", "Compare it, group by group, with where it was read out or shown."),
    Entry("code_mistyped", 4, 400, "There is a mistake in this installation or confirmation ID", "Look at the groups or words named in the detail."),
    Entry("code_foreign", 4, 400, "This confirmation ID was not made for this installation ID",
          "Compare the installation ID that was read out with the one shown here, then ask for its confirmation ID."),
    Entry("file_malformed", 4, 400, "This file cannot be read", "Get the file again, whole; `keyturn inspect FILE` tells what it is."),
    Entry("policy_malformed", 4, 400, "The organization's policy is not understood, so nothing is sent",
          "Mend the line in the detail; `keyturn doctor` reads the policy again."),
    Entry("provision_malformed", 4, 400, "This provisioning file is not understood, so nothing of it was done",
          "Mend the line in the detail; `keyturn apply --dry-run` reads it again."),
    Entry("document_malformed", 4, 400, "This document is not well formed", "Get it again from where it came."),
    Entry("signature_invalid", 4, 400, "A signature does not verify", "Do not use this document; get it again from its publisher."),
    Entry("trust_invalid", 4, 400, "The chain of trust does not hold", "Do not use this document; get the product file again from its publisher."),
    Entry("issuer_revoked", 4, 400, "This is signed by a key that its publisher revoked", "Get the file or the answer again from the publisher, who has replaced the key."),
    Entry("publisher_mismatch", 4, 400, "This comes from another publisher than the one expected", "Do not use this file; get the product file from the real publisher."),
    Entry("document_foreign", 4, 400, "This document belongs to another product, computer or request", "Use it where it belongs, or make a new request."),
    Entry("document_expired", 4, 400, "This document was made outside the time its key may be used", "Get a newer one from its publisher."),
    Entry("input_too_large", 4, 413, "This is larger than anything Keyturn reads", "Check that it is the right file."),
    Entry("request_unsupported", 4, 400, "This is not a request of the protocol", "Compare it with the protocol; a client of the same version sends it right."),
    Entry("idempotency_mismatch", 4, 422, "This Idempotency-Key was used for another request", "Use a new key for a new request; repeat a request with the very same content."),
    # It could be done, but must not be (exit 5).
    Entry("token_invalid", 5, 401, "This token is not accepted", "Make a new one in the service's home: `keyturn service token create --role ROLE`."),
    Entry("sign_in_needed", 5, 401, "Nobody is signed in", "Open the fleet manager's address in a browser and sign in."),
    Entry("sign_in_failed", 5, 403, "Name and password do not belong together, or there were too many wrong ones",
          "Wait a moment and try again; an administrator sets a new password with `keyturn fleet user password NAME`."),
    Entry("sign_in_refused", 5, 403, "The sign-in with the organization's provider does not count",
          "Open the fleet manager's own address and begin again; if it happens again, show this to an administrator."),
    Entry("consent_required", 5, 403, "Nothing was sent, because nobody agreed to it", "See what would be sent with `keyturn disclose`, then repeat with --yes."),
    Entry("policy_forbids", 5, 403, "Your organization's policy does not allow this", "Take a way that the policy allows, or ask whoever keeps the policy; the line is in the detail."),
    Entry("key_file_exposed", 5, 403, "The file with the product key can be read by others, so the key was not used",
          "Let its owner alone read it: `chmod 600 FILE`; ask for a new key if it may have been seen."),
    Entry("permission_denied", 5, 403, "This account may not do that", "Repeat it with the rights named in the detail."),
    Entry("signer_locked", 5, 503, "The signer does not open with this PIN or passphrase, or none was given",
          "Give the right one (see `signers` in the documentation) and start the service again; a wrong PIN is never tried twice."),
    Entry("test_only", 5, 403, "Only a test product may be told another computer or time", "Unset KEYTURN_SYSROOT and KEYTURN_NOW, or use a product made with --test."),
    # Our fault (exit 6).
    Entry("storage_failed", 6, 503, "Writing failed, so nothing was acknowledged", "Free space or repair the disk, then try again; nothing is lost."),
    Entry("store_damaged", 6, 500, "The store on this computer is damaged", "Run `keyturn activate` again; a seat that is held costs nothing."),
    Entry("program_failed", 6, 500, "A program of this system failed", "Mend what it says in the detail, then run the same command again."),
    Entry("platform_unsupported", 6, 500, "This operating system is not supported yet", "Use a computer with Linux, Windows or macOS."),
    Entry("internal", 6, 500, "Something went wrong inside Keyturn", "Report it with the reference; trying again is safe."),
)

CATALOGUE: Mapping[str, Entry] = {entry.code: entry for entry in _ENTRIES}


def entry(code: str) -> Entry:
    """Return the catalogue's line for ``code``; an unknown code (a newer peer's) is an ordinary refusal."""
    return CATALOGUE.get(code) or Entry(code, EXIT_REFUSED, 400, code.replace("_", " "), "Run `keyturn status`, or ask the publisher.")


class KeyturnError(Exception):
    """A broken proof, bad input or a fault, with its code of the catalogue.

    ``detail`` is safe to show: it never holds a product key, a secret or a raw hardware value.
    ``data`` holds figures for programs (for example the groups of a mistyped key).
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        remedy: str | None = None,
        retry_after: int | None = None,
        data: Mapping[str, object] | None = None,
    ) -> None:
        self.entry = entry(code)
        self.code = code
        self.detail = detail or self.entry.title
        self.remedy = remedy or self.entry.remedy
        self.retry_after = retry_after
        self.reference: str | None = None
        self.data: Mapping[str, object] = data or {}
        super().__init__(self.detail)

    @property
    def exit(self) -> int:
        """The exit status of a command that ends with this error (design: 0 to 6)."""
        return self.entry.exit

    def as_json(self) -> dict[str, object]:
        """The ``error`` object of ``--json`` output."""
        return {
            "code": self.code,
            "title": self.entry.title,
            "detail": self.detail,
            "remedy": self.remedy,
            "reference": self.reference,
            "retry_after": self.retry_after,
        }


class Refused(NamedTuple):
    """A business "no": the request was understood, its proofs hold, and the answer is no."""

    code: str
    why: str
    retry_after: int | None = None
    reference: str | None = None  # The other side's number for this answer, if it gave one.

    def as_error(self) -> KeyturnError:
        """The same answer for a place where only an exception can travel (the end of a command)."""
        error = KeyturnError(self.code, self.why, retry_after=self.retry_after)
        error.reference = self.reference
        return error
