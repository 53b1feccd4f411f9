"""SOAP by hand: just enough to say what no client library would say."""
import re
import ssl
import urllib.error
import urllib.request

ENVELOPE = ('<?xml version="1.0"?><e:Envelope '
            'xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
            '<e:Body>{}</e:Body></e:Envelope>')
HEADERS = {"Content-Type": "text/xml; charset=utf-8",
           "SOAPAction": "urn:vim25/8.0.1.0"}


class Fault(Exception):
    """A SOAP fault: its type and the whole answer."""

    def __init__(self, text):
        self.type = re.search(r'<detail><\w+ [^>]*xsi:type="(\w+)"',
                              text).group(1)
        self.text = text
        super().__init__(text)


class Soap:
    def __init__(self, lab):
        self.lab = lab
        self.url = "https://{host}:{port}/sdk".format(**lab.vcenter)
        self.tls = ssl.create_default_context(cafile=lab.vcenter["ca_file"])
        self.cookie = None

    def post(self, body, **headers):
        """The raw text of an answer; raises Fault or urllib's errors."""
        all_headers = dict(HEADERS)
        if self.cookie:
            all_headers["Cookie"] = self.cookie
        all_headers.update({k.replace("_", "-"): v
                            for k, v in headers.items()})
        request = urllib.request.Request(
            self.url, body.encode(),
            {k: v for k, v in all_headers.items() if v is not None})
        try:
            with urllib.request.urlopen(request, context=self.tls) as answer:
                cookie = answer.headers.get("Set-Cookie")
                if cookie:
                    self.cookie = cookie.split(";")[0]
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            if error.code == 500:
                raise Fault(text) from None
            raise

    def call(self, method, this, args="", **headers):
        """this is "Type:id"."""
        kind, moref = this.split(":", 1)
        return self.post(ENVELOPE.format(
            f'<{method} xmlns="urn:vim25"><_this type="{kind}">{moref}'
            f'</_this>{args}</{method}>'), **headers)

    def login(self):
        return self.call(
            "Login", "SessionManager:SessionManager",
            "<userName>{user}</userName><password>{password}</password>"
            .format(**self.lab.vcenter))

    def task(self, method, this, args=""):
        """Starts a task and waits for its end; the text of its info."""
        text = self.call(method, this, args)
        moref = re.search(r'type="Task">([^<]+)<', text).group(1)
        while True:
            text = self.prop(f"Task:{moref}", "info")
            if re.search("<state>(success|error)</state>", text):
                return text

    def prop(self, obj, path):
        kind, moref = obj.split(":", 1)
        return self.call(
            "RetrievePropertiesEx", "PropertyCollector:propertyCollector",
            f"<specSet><propSet><type>{kind}</type><pathSet>{path}</pathSet>"
            f'</propSet><objectSet><obj type="{kind}">{moref}</obj>'
            "</objectSet></specSet><options/>")

    def snapshot(self, vm, name="s"):
        """Makes one and returns its moref."""
        info = self.task(
            "CreateSnapshot_Task", f"VirtualMachine:{vm}",
            f"<name>{name}</name><memory>false</memory>"
            "<quiesce>false</quiesce>")
        return re.search(r'type="VirtualMachineSnapshot">([^<]+)<',
                         info).group(1)

    def remove(self, snapshot):
        """The text of the task's info."""
        return self.task(
            "RemoveSnapshot_Task", f"VirtualMachineSnapshot:{snapshot}",
            "<removeChildren>false</removeChildren>"
            "<consolidate>true</consolidate>")


def enable_cbt(soap, vm):
    """Flag, then the stun that makes it work."""
    soap.task("ReconfigVM_Task", f"VirtualMachine:{vm}",
              "<spec><changeTrackingEnabled>true</changeTrackingEnabled>"
              "</spec>")
    soap.remove(soap.snapshot(vm))
